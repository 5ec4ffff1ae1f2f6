// Who is live, and who was.

import { h } from "../dom.js";
import { ageOf, lastingSince, number, span, timeOf } from "../format.js";
import { List } from "../list.js";
import { name, t } from "../language.js";
import { field, input, raw, select, stateOf, streamLink, watch } from "../pieces.js";

const FOLLOW = 4_000;

export default async function streams(here) {
    const filter = Object.fromEntries(["state", "domain", "app"].map(field => [field, here.query.get(field) ?? ""]));
    const list = new List({ path: "/streams", filter, member: "streams", columns: columns(), key: row => JSON.stringify([row.domain, row.app, row.stream]),
        caption: t("page.streams"), nothing: t("streams.none") });
    here.title(t("page.streams"));
    here.place.append(filters(filter, () => {
        here.keep(filter);
        list.load(here.signal);
    }), list.element);
    await list.load(here.signal);
    here.every(FOLLOW, () => (list.element.contains(document.activeElement) ? Promise.resolve() : list.refresh()));
}

function columns() {
    return [
        { title: t("stream.state"), cell: row => stateOf(row.state) },
        { title: t("event.stream"), cell: streamLink, class: "long" },
        { title: t("event.app"), cell: row => raw(row.app) },
        { title: t("event.domain"), cell: row => raw(row.domain), class: "wide" },
        { title: t("stream.last"), cell: row => ageOf(row.last_event_at) },
        { title: t("stream.started"), cell: row => timeOf(row.started_at) },
        { title: t("stream.duration"), cell: row => lasted(row), class: "number" },
        { title: t("stream.end"), cell: row => cause(row.end), class: "long" },
        { title: t("stream.pushes"), cell: row => number(row.pushes), class: "number wide" },
        { title: t("stream.recordings"), cell: row => number(row.recordings), class: "number wide" },
    ];
}

/// How long a push has lasted, or lasts by now.
export function lasted(push) {
    if (push.duration_ms !== null && push.duration_ms !== undefined) return span(push.duration_ms);
    if (push.state === "ended" || !push.started_at) return h("span", { class: "none" }, "–");
    return lastingSince(push.started_at);
}

/// Why a push ended, in words.
export function cause(end) {
    if (!end) return h("span", { class: "none" }, "–");
    const said = end.class === "replaced" ? t("cause.replaced") : t(`cause.${end.errcode}`);
    const words = said.startsWith("cause.") ? t("cause.unknown") : said;
    return h("span", { class: `cause ${end.class}`, title: `${words} (${name("class", end.class)}, errcode ${end.errcode})` }, words);
}

function filters(filter, changed) {
    const state = select("state", [["", t("filter.all")], ["live", name("state", "live")], ["ended", name("state", "ended")]], filter.state);
    const controls = { state, app: input("app", filter.app, "search"), domain: input("domain", filter.domain, "search") };
    watch(controls, (key, value) => {
        filter[key] = value;
        changed();
    });
    return h("form", { class: "filters", role: "search", "aria-label": t("filter.title"), on: { submit: event => event.preventDefault() } },
        Object.entries(controls).map(([key, control]) => field(t(`filter.${key}`), control)));
}
