// Callbacks that were refused: why, and what to do about it.

import { find, get, getBytes, path, post, query } from "../api.js";
import { h, put } from "../dom.js";
import { bytes, number, timeOf } from "../format.js";
import { covered, hasSecrets, view } from "../json.js";
import { List } from "../list.js";
import { count, name, t } from "../language.js";
import { REASONS, button, card, confirm, field, notice, raw, say, select, show } from "../pieces.js";

const FOLLOW = 4_000;
/// Callbacks read at once, and looked at again at once: few enough that it soon is seen how far it is.
const PAGE = 1000;
const STEP = 100;

export default async function quarantine(here) {
    const filter = { reason: here.query.get("reason") ?? "" };
    const counts = h("ul", { class: "reasons" });
    const advice = h("div");
    const all = h("div", { class: "buttons" });
    const progress = h("div", { role: "status" });
    const reason = select("reason", [["", t("filter.all")], ...REASONS.map(reason => [reason, name("reason", reason)])], filter.reason);
    const list = new List({ path: "/quarantine", filter, member: "items", columns: columns(refresh), key: row => row.id,
        caption: t("page.quarantine"), nothing: t("quarantine.none") });
    here.title(t("page.quarantine"));
    here.place.append(h("p", { class: "hint" }, t("quarantine.text")), counts,
        h("form", { class: "filters", role: "search", "aria-label": t("filter.title"), on: { submit: event => event.preventDefault() } },
            field(t("quarantine.reason"), reason), all),
        progress, advice, list.element);
    reason.addEventListener("change", () => choose(reason.value));
    await refresh();
    here.every(FOLLOW, () => (list.element.contains(document.activeElement) ? Promise.resolve() : Promise.all([list.refresh(), sum()])));

    function choose(value) {
        filter.reason = value;
        reason.value = value;
        here.keep(filter);
        return refresh();
    }

    async function refresh() {
        put(advice, filter.reason && explanation(filter.reason));
        advice.hidden = !filter.reason;
        const done = () => here.signal.aborted || refresh();
        put(all, many(filter, false, progress, done), (!filter.reason || forcible(filter.reason)) && many(filter, true, progress, done));
        await Promise.all([list.load(here.signal), sum()]);
    }

    /// How many of each reason there are.
    async function sum() {
        const stats = await find("/stats?span=1h", here.signal);
        const there = Object.entries(stats?.quarantine.by_reason ?? {}).filter(([, n]) => n > 0);
        if (counts.contains(document.activeElement)) return;
        put(counts, there.map(([key, n]) => h("li", {}, button([name("reason", key), " ", h("b", {}, number(n))], () => choose(key === filter.reason ? "" : key), "chip"))));
    }
}

function explanation(reason) {
    return card(name("reason", reason), h("p", {}, t(`reason.${reason}.means`)), h("p", {}, h("b", {}, t("quarantine.todo")), " ", t(`reason.${reason}.todo`)));
}

function columns(refresh) {
    return [
        { title: t("event.received"), cell: item => timeOf(item.received_at) },
        { title: t("quarantine.reason"), cell: item => h("span", { title: t(`reason.${item.reason}.means`) }, name("reason", item.reason)) },
        { title: t("quarantine.detail"), cell: item => raw(item.detail, "error"), class: "long" },
        { title: t("quarantine.path"), cell: item => raw(item.path), class: "wide" },
        { title: t("event.bytes"), cell: item => bytes(item.bytes), class: "number" },
        { title: t("act.title"), cell: item => acts(item, refresh), class: "acts" },
    ];
}

function acts(item, refresh) {
    const look = button(t("act.look"), () => openBody(item), "quiet");
    // What is not all there can never become an event.
    if (item.truncated) return h("div", { class: "buttons" }, look);
    return h("div", { class: "buttons" }, look, one(item, false, refresh), forcible(item.reason) && one(item, true, refresh));
}

/// Force overlooks who sent it, not what was sent.
const forcible = reason => reason === "token" || reason.startsWith("signature");

function one(item, force, refresh) {
    return button(t(force ? "act.force" : "act.readmit"), async () => {
        if (force && !await confirm(t("quarantine.force.title"), h("p", {}, t("quarantine.force.text")), t("act.force"), "danger")) return;
        report(await post(`${path("quarantine", item.id)}/readmit`, { force }));
        await refresh();
    }, force ? "quiet" : "");
}

function many(filter, force, progress, done) {
    return button(t(force ? "quarantine.force.all" : "quarantine.readmit.all"), async () => {
        const stats = await find("/stats?span=1h");
        const { reason } = filter;
        const held = reason ? stats?.quarantine.by_reason[reason] : stats?.quarantine.total;
        const body = [h("p", {}, held === undefined ? t("quarantine.many.text") : count("quarantine.many.count", held, number(held))),
            h("p", { class: "hint" }, reason ? `${t("quarantine.reason")}: ${name("reason", reason)}` : t("quarantine.many.every")),
            force && notice(t("quarantine.force.text"), "warn")].filter(Boolean);
        if (!await confirm(t(force ? "quarantine.force.all" : "quarantine.readmit.all"), body, t(force ? "act.force" : "act.readmit"), force ? "danger" : "primary")) return;
        await readmit(await ids(reason), force, progress);
        await done();
    }, force ? "quiet" : "");
}

/// All that are there now, the oldest first.
async function ids(reason) {
    const found = [];
    for (let cursor = null; ; ) {
        const page = await get(`/quarantine${query({ reason, limit: PAGE, cursor })}`);
        found.push(...page.items.map(item => item.id));
        cursor = page.next;
        if (!cursor) return found.reverse();
    }
}

/// Has them looked at again some at a time, and shows how far it is. Whoever closes the window meanwhile is asked first.
async function readmit(ids, force, progress) {
    const sum = { readmitted: 0, refused: 0 };
    const stay = event => event.preventDefault();
    addEventListener("beforeunload", stay);
    try {
        for (let at = 0; at < ids.length; at += STEP) {
            put(progress, gauge(at, ids.length));
            const one = await post("/quarantine/readmit", { ids: ids.slice(at, at + STEP), force });
            sum.readmitted += one.readmitted;
            sum.refused += one.refused;
        }
    } finally {
        removeEventListener("beforeunload", stay);
        put(progress);
        report(sum);
    }
}

function gauge(done, all) {
    const text = t("store.of", { a: number(done), b: number(all) });
    return [h("progress", { max: all, value: done, "aria-label": text }), " ", text];
}

function report({ readmitted, refused }) {
    say(`${count("quarantine.readmitted", readmitted, number(readmitted))} ${refused ? count("quarantine.refused", refused, number(refused)) : ""}`, readmitted || !refused ? "ok" : "bad");
}

/// The body, which may be anything at all.
async function openBody(item) {
    const text = new TextDecoder().decode(await getBytes(`${path("quarantine", item.id)}/body`));
    const isJson = /^\s*\{/.test(text) && item.reason !== "malformed-json";
    const place = h("div");
    let uncovered = false;
    const paint = () => put(place, isJson ? view(text, t("quarantine.body"), uncovered) : h("pre", { tabindex: 0, role: "group", "aria-label": t("quarantine.body") }, uncovered ? text : covered(text)));
    const toggle = h("button", { type: "button", class: "quiet", "aria-pressed": "false", on: { click: () => {
        uncovered = !uncovered;
        toggle.setAttribute("aria-pressed", String(uncovered));
        toggle.textContent = t(uncovered ? "json.hide" : "json.show");
        paint();
    } } }, t("json.show"));
    paint();
    const secrets = isJson ? hasSecrets(text) : covered(text) !== text;
    show(t("quarantine.body"), [explanation(item.reason), item.truncated && notice(t("quarantine.truncated"), "warn"), secrets && toggle,
        text ? place : notice(t("quarantine.empty"))].filter(Boolean));
}
