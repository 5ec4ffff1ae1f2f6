// What arrived.

import { h, put } from "../dom.js";
import { bytes, number, timeOf } from "../format.js";
import { List } from "../list.js";
import { count, name, t } from "../language.js";
import { KINDS, button, eventLink, field, input, kindOf, raw, select, stateOf, streamLink, toLocal, watch } from "../pieces.js";

const FOLLOW = 2_000;
const FIELDS = ["kind", "domain", "app", "stream", "verification", "since", "until"];

export default async function events(here) {
    const filter = Object.fromEntries(FIELDS.map(field => [field, here.query.get(field) ?? ""]));
    let follows = here.query.get("follow") !== "no" && !filter.until;
    const follow = h("input", { type: "checkbox", role: "switch", checked: follows });
    const told = h("p", { class: "unseen", "aria-live": "polite" });
    const list = new List({ path: "/events", filter, member: "events", columns: columns(), key: row => row.id,
        caption: t("page.events"), nothing: t("events.none") });

    here.title(t("page.events"), h("label", { class: "switch" }, follow, t("events.follow")));
    here.place.append(filters(filter, changed), told, list.element);
    follow.addEventListener("change", () => {
        follows = follow.checked;
        remember();
    });
    await list.load(here.signal);
    here.every(FOLLOW, async () => {
        if (!follows || filter.until) return;
        const fresh = await list.refresh();
        if (fresh) put(told, count("events.came", fresh, number(fresh)));
    });

    function changed(field, value) {
        filter[field] = value;
        remember();
        list.load(here.signal);
    }

    function remember() {
        here.keep({ ...filter, follow: follows ? "" : "no" });
    }
}

function columns() {
    return [
        { title: t("event.received"), cell: row => timeOf(row.received_at), class: "time" },
        { title: t("event.kind"), cell: row => h("a", { href: `#/events/${row.id}`, class: "quietlink" }, kindOf(row.kind)) },
        { title: t("event.stream"), cell: streamLink, class: "long" },
        { title: t("event.app"), cell: row => raw(row.app), class: "wide" },
        { title: t("event.domain"), cell: row => raw(row.domain), class: "wide" },
        { title: t("event.verification"), cell: row => stateOf(row.verification), class: "wide" },
        { title: t("event.duplicates"), cell: row => (row.duplicates ? number(row.duplicates) : h("span", { class: "none" }, "–")), class: "number wide" },
        { title: t("event.bytes"), cell: row => bytes(row.bytes), class: "number wide" },
        { title: t("event.id"), cell: row => eventLink(row.id) },
    ];
}

function filters(filter, changed) {
    const all = [["", t("filter.all")]];
    const kinds = select("kind", [...all, ...KINDS.map(kind => [kind, name("kind", kind)])], filter.kind);
    const verified = select("verification", [...all, ...["verified", "unsigned", "forced"].map(v => [v, name("state", v)])], filter.verification);
    const inputs = { kind: kinds, stream: input("stream", filter.stream, "search"), app: input("app", filter.app, "search"),
        domain: input("domain", filter.domain, "search"), verification: verified,
        since: input("since", toLocal(filter.since), "datetime-local"), until: input("until", toLocal(filter.until), "datetime-local") };
    watch(inputs, changed);
    const clear = button(t("filter.clear"), async () => {
        for (const [field, control] of Object.entries(inputs)) {
            control.value = "";
            filter[field] = "";
        }
        changed("kind", "");
    }, "quiet");
    return h("form", { class: "filters", role: "search", "aria-label": t("filter.title"), on: { submit: event => event.preventDefault() } },
        Object.entries(inputs).map(([key, control]) => field(t(`filter.${key}`), control)), clear);
}
