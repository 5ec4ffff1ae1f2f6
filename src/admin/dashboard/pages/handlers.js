// Who gets events: holding back, letting go, and having events delivered again.

import { PATIENT, find, get, path, post } from "../api.js";
import { h, put } from "../dom.js";
import { ageOf, number, timeOf } from "../format.js";
import { count, name, t } from "../language.js";
import { KINDS, button, card, confirm, empty, field, fromLocal, input, link, notice, raw, row, say, select, stateOf, table, words } from "../pieces.js";

const FOLLOW = 3_000;

export default async function handlers(here) {
    const places = { list: h("div"), form: h("div"), jobs: h("div") };
    here.title(t("page.handlers"));
    const jobs = card(t("replay.jobs"), places.jobs);
    jobs.hidden = true;
    here.place.append(places.list, card(t("replay.title"), h("p", { class: "hint" }, t("replay.text")), places.form), jobs);
    const names = await refresh();
    put(places.form, form(names, () => refreshJobs()));
    await refreshJobs();
    here.every(FOLLOW, () => Promise.all([refresh(), refreshJobs()]));

    async function refresh() {
        const all = await get("/handlers", here.signal);
        if (!places.list.contains(document.activeElement)) put(places.list, list(all, refreshNow));
        return all.filter(handler => handler.type !== null).map(handler => handler.name);
    }

    async function refreshNow() {
        document.activeElement?.blur();
        await refresh();
    }

    async function refreshJobs() {
        const found = await find("/replay", here.signal);
        const all = found?.replays ?? [];
        jobs.hidden = all.length === 0;
        if (!places.jobs.contains(document.activeElement)) put(places.jobs, running(all, refreshJobs));
    }
}

function list(handlers, refresh) {
    if (handlers.length === 0) return empty(t("handlers.none"));
    const columns = [
        { title: t("handler.name"), cell: item => [h("b", {}, raw(item.name)), " ", h("span", { class: "hint" }, item.type ?? t("handler.gone"))] },
        { title: t("handler.state"), cell: item => stateOf(item.state) },
        { title: t("handler.pending"), cell: item => (item.pending ? link(`#/dead?state=pending&handler=${encodeURIComponent(item.name)}`, number(item.pending)) : number(0)), class: "number" },
        { title: t("handler.oldest"), cell: item => (item.oldest_pending_at ? ageOf(item.oldest_pending_at) : h("span", { class: "none" }, "–")) },
        { title: t("handler.dead"), cell: item => (item.dead ? link(`#/dead?handler=${encodeURIComponent(item.name)}`, h("b", { class: "bad" }, number(item.dead))) : number(0)), class: "number" },
        { title: t("handler.success"), cell: item => ageOf(item.last_success_at) },
        { title: t("handler.error"), cell: item => raw(item.last_error, "error"), class: "long" },
        { title: t("act.title"), cell: item => item.type !== null && turn(item, refresh), class: "acts" },
    ];
    return h("section", { class: "card" }, table(t("page.handlers"), columns, handlers.map(item => row(columns, item))));
}

function turn(item, refresh) {
    const pausing = item.state === "running";
    return button(t(pausing ? "act.pause" : "act.resume"), async () => {
        if (pausing && !await confirm(t("handler.pause.title"), h("p", {}, t("handler.pause.text", { handler: item.name })), t("act.pause"), "primary")) return;
        await post(`${path("handlers", item.name)}/${pausing ? "pause" : "resume"}`);
        say(t(pausing ? "handler.paused" : "handler.resumed", { handler: item.name }));
        await refresh();
    }, pausing ? "quiet" : "primary");
}

/// What to deliver again, to whom. Nothing is queued before it was counted.
function form(names, queued) {
    const kind = select("kind", [["", t("filter.all")], ...KINDS.map(kind => [kind, name("kind", kind)])], "");
    const fields = { domain: input("domain"), app: input("app"), stream: input("stream") };
    const since = input("since", "", "datetime-local"), until = input("until", "", "datetime-local");
    const rate = h("input", { name: "rate", type: "number", min: 1, placeholder: t("replay.unlimited") });
    const handlers = names.map(handler => h("input", { type: "checkbox", name: "handler", value: handler }));
    const told = h("div", { role: "status" });

    const asked = () => {
        const wanted = { kind: kind.value, ...Object.fromEntries(Object.entries(fields).map(([key, control]) => [key, control.value.trim()])),
            since: fromLocal(since.value), until: fromLocal(until.value) };
        const chosen = handlers.filter(box => box.checked).map(box => box.value);
        return { ...Object.fromEntries(Object.entries(wanted).filter(([, value]) => value)), ...(chosen.length && { handlers: chosen }) };
    };
    const tryOut = async () => {
        const { matched } = await post("/replay", { ...asked(), dry_run: true }, PATIENT);
        put(told, notice(count("replay.matched", matched, number(matched)), matched ? "ok" : "none"));
        return matched;
    };
    const act = act => async () => {
        try {
            await act();
        } catch (error) {
            put(told, notice(words(error), "bad"));
        }
    };
    const go = async () => {
        const matched = await tryOut();
        if (matched === 0) return;
        const to = asked().handlers?.join(", ") ?? t("replay.everybody");
        const body = [h("p", {}, count("replay.ask", matched, number(matched))), h("p", { class: "hint" }, `${t("replay.to")}: `, raw(to)), h("p", { class: "hint" }, t("replay.again"))];
        if (!await confirm(t("replay.title"), body, t("act.replay"), "primary")) return;
        const pace = rate.value ? { rate: Number(rate.value) } : {};
        const job = await post("/replay", { ...asked(), ...pace, background: true }, PATIENT);
        put(told, notice(job.id ? t("replay.begun") : count("replay.queued", job.queued, number(job.queued)), "ok"));
        await queued();
    };
    return h("form", { on: { submit: event => event.preventDefault() } },
        h("div", { class: "filters" }, field(t("filter.kind"), kind), Object.entries(fields).map(([key, control]) => field(t(`filter.${key}`), control)),
            field(t("filter.since"), since), field(t("filter.until"), until), field(t("replay.rate"), rate)),
        h("fieldset", { class: "checks" }, h("legend", {}, t("replay.to")), handlers.map(box => h("label", {}, box, h("bdi", {}, box.value))), h("span", { class: "hint" }, t("replay.none"))),
        h("div", { class: "buttons" }, button(t("replay.try"), act(tryOut)), button(t("act.replay"), act(go), "primary")), told);
}

function running(jobs, refresh) {
    const columns = [
        { title: t("replay.started"), cell: job => timeOf(job.started_at) },
        { title: t("replay.state"), cell: job => stateOf(job.state) },
        { title: t("replay.progress"), cell: job => progress(job), class: "long" },
        { title: t("replay.ended"), cell: job => timeOf(job.ended_at) },
        { title: t("act.title"), cell: job => job.state === "running" && button(t("act.stop"), async () => {
            await post(`${path("replay", job.id)}/cancel`);
            say(t("replay.cancelled"));
            document.activeElement?.blur();
            await refresh();
        }, "quiet"), class: "acts" },
    ];
    return table(t("replay.jobs"), columns, jobs.map(job => row(columns, job)));
}

const progress = job => {
    const text = t("store.of", { a: number(job.replayed), b: number(job.matched) });
    return [h("progress", { max: Math.max(1, job.matched), value: job.replayed, "aria-label": text }), " ", text, " · ", count("replay.queued", job.queued, number(job.queued)),
        job.detail && [" ", raw(job.detail, "error")]];
};
