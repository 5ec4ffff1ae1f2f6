// Deliveries that nobody tries again without a person, or that wait.

import { PATIENT, find, path, post } from "../api.js";
import { h, put } from "../dom.js";
import { number, timeOf } from "../format.js";
import { List } from "../list.js";
import { count, name, t } from "../language.js";
import { button, confirm, eventLink, field, raw, say, select, stateOf } from "../pieces.js";

const FOLLOW = 4_000;
const STATES = ["dead", "pending", "dropped"];

export default async function dead(here) {
    const filter = { handler: here.query.get("handler") ?? "", state: STATES.includes(here.query.get("state")) ? here.query.get("state") : "dead" };
    const names = (await find("/handlers", here.signal) ?? []).map(handler => handler.name);
    if (filter.handler && !names.includes(filter.handler)) names.push(filter.handler);
    const handler = select("handler", [["", t("filter.all")], ...names.map(name => [name, name])], filter.handler);
    const state = select("state", STATES.map(state => [state, name("state", state)]), filter.state);
    const why = h("div");
    const list = new List({ path: "/deliveries", filter, member: "deliveries", columns: columns(() => list, () => refresh()),
        key: row => `${row.event_id} ${row.handler}`, caption: t("page.dead"), nothing: "" });
    const acts = h("div", { class: "buttons" });
    here.title(t("page.dead"));
    here.place.append(h("p", { class: "hint" }, t("dead.text")),
        h("form", { class: "filters", role: "search", "aria-label": t("filter.title"), on: { submit: event => event.preventDefault() } },
            field(t("delivery.handler"), handler), field(t("delivery.state"), state), acts), why, list.element);
    for (const [key, control] of [["handler", handler], ["state", state]]) {
        control.addEventListener("change", () => {
            filter[key] = control.value;
            here.keep({ handler: filter.handler, state: filter.state === "dead" ? "" : filter.state });
            return refresh();
        });
    }
    await refresh();
    here.every(FOLLOW, () => (list.element.contains(document.activeElement) ? Promise.resolve() : list.refresh().then(tell)));

    async function refresh() {
        list.nothing = t(`dead.none.${filter.state}`);
        put(acts, filter.state !== "pending" && all("retry"), filter.state !== "dropped" && all("drop"));
        await list.load(here.signal);
        tell();
    }

    /// The commonest errors of what is listed: often there is one cause for all.
    function tell() {
        const counts = new Map();
        for (const { text } of list.items.values()) {
            const { handler, last_error: error } = JSON.parse(text);
            if (error) counts.set(`${handler}\n${error}`, (counts.get(`${handler}\n${error}`) ?? 0) + 1);
        }
        const most = [...counts].filter(([, n]) => n > 1).sort((a, b) => b[1] - a[1]).slice(0, 3);
        put(why, most.length > 0 && h("ul", { class: "plain why" }, most.map(([key, n]) => h("li", {}, h("b", {}, `${number(n)} × `), raw(key.split("\n")[0]), ": ", raw(key.split("\n").slice(1).join(" "), "error")))));
    }

    /// Decides on all that the filter shows, after counting them and asking.
    function all(verdict) {
        return button(t(`dead.${verdict}.all`), async () => {
            const asked = { state: filter.state, ...(filter.handler && { handler: filter.handler }) };
            const { matched } = await post(`/deliveries/${verdict}`, { ...asked, dry_run: true }, PATIENT);
            if (matched === 0) return say(t("dead.nothing"));
            const text = count(`dead.${verdict}.ask`, matched, number(matched));
            const where = filter.handler ? [t("delivery.handler"), ": ", raw(filter.handler)] : t("dead.everywhere");
            if (!await confirm(t(`dead.${verdict}.all`), [h("p", {}, text), h("p", { class: "hint" }, where)], t(`act.${verdict}`), verdict === "drop" ? "danger" : "primary")) return;
            const { changed } = await post(`/deliveries/${verdict}`, asked, PATIENT);
            say(count(`dead.${verdict}.done`, changed, number(changed)));
            await refresh();
        }, verdict === "drop" ? "quiet" : "");
    }
}

function columns(list, refresh) {
    const decide = (item, verdict) => button(t(`act.${verdict}`), async () => {
        if (verdict === "drop" && !await confirm(t("delivery.drop.title"), h("p", {}, t("delivery.drop.text", { handler: item.handler })), t("act.drop"), "danger")) return;
        await post(`${path("deliveries", item.event_id, item.handler)}/${verdict}`);
        say(t(verdict === "drop" ? "delivery.dropped" : "delivery.retried", { handler: item.handler }));
        list().drop(item);
        if (list().items.size === 0) await refresh();
    }, verdict === "drop" ? "quiet" : "");
    return [
        { title: t("delivery.updated"), cell: item => timeOf(item.updated_at) },
        { title: t("delivery.handler"), cell: item => raw(item.handler) },
        { title: t("page.event"), cell: item => eventLink(item.event_id) },
        { title: t("delivery.state"), cell: item => stateOf(item.state), class: "wide" },
        { title: t("delivery.attempts"), cell: item => number(item.attempts), class: "number" },
        { title: t("delivery.error"), cell: item => raw(item.last_error, "error"), class: "long" },
        { title: t("delivery.next"), cell: item => timeOf(item.next_attempt_at), class: "wide" },
        { title: t("act.title"), cell: item => h("div", { class: "buttons" }, decide(item, "retry"), item.state !== "dropped" && decide(item, "drop")), class: "acts" },
    ];
}
