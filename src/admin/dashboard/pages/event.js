// One event: what it says, and what became of it.

import { getText, path, post } from "../api.js";
import { h, put } from "../dom.js";
import { ageOf, bytes, number, timeOf } from "../format.js";
import { hasSecrets, member, view } from "../json.js";
import { count, t } from "../language.js";
import { button, card, confirm, empty, facts, kindOf, raw, row, say, stateOf, streamLink, table } from "../pieces.js";

const FOLLOW = 3_000;

export default async function event(here) {
    const [id] = here.rest;
    here.title(t("page.event"));
    const [text, body] = await Promise.all([getText(path("events", id), here.signal), getText(`${path("events", id)}/body`, here.signal)]);
    const event = read(text);
    const deliveries = h("div");
    const head = h("div", { class: "headline" }, kindOf(event.kind), stateOf(event.verification), event.duplicates > 0 && h("span", { class: "state none" }, count("event.copies", event.duplicates)));
    here.place.append(...[head, about(event), card(t("event.deliveries"), deliveries), payload(t("event.payload"), body, id),
        event.drift.length > 0 && card(t("event.drift"), h("p", { class: "hint" }, t("event.drift.text")), h("ul", { class: "plain" }, event.drift.map(line => h("li", {}, raw(line))))),
        payload("CloudEvent", member(text, "cloudevent") ?? "null", null)].filter(Boolean));
    let painted = "";
    const paint = found => {
        painted = JSON.stringify(found);
        put(deliveries, shown(found, refresh));
    };
    const refresh = async () => paint(read(await getText(path("events", id), here.signal)).deliveries);
    paint(event.deliveries);
    here.every(FOLLOW, async () => {
        const found = read(await getText(path("events", id), here.signal)).deliveries;
        // Painting takes the focus from whoever is at a button.
        if (JSON.stringify(found) !== painted && !deliveries.contains(document.activeElement)) paint(found);
    });
}

/// The event without its payload, whose numbers are no business of ours.
function read(text) {
    const cloudevent = member(text, "cloudevent");
    return JSON.parse(cloudevent === null ? text : text.replace(cloudevent, () => "null"));
}

function about(event) {
    return card(t("event.facts"), facts([
        [t("event.stream"), event.stream ? streamLink(event) : raw(null)],
        [t("event.app"), raw(event.app)],
        [t("event.domain"), raw(event.domain)],
        [t("event.sequence"), raw(event.sequence)],
        [t("event.received"), [timeOf(event.received_at), " · ", ageOf(event.received_at)]],
        [t("event.occurred"), timeOf(event.occurred_at)],
        [t("event.type"), raw(event.event_type === null ? null : String(event.event_type))],
        [t("event.bytes"), bytes(event.bytes)],
        [t("event.duplicates"), number(event.duplicates)],
        [t("event.id"), raw(event.id, "mono")],
    ]));
}

function shown(deliveries, refresh) {
    if (deliveries.length === 0) return empty(t("event.nobody"));
    const columns = [
        { title: t("delivery.handler"), cell: item => raw(item.handler) },
        { title: t("delivery.state"), cell: item => [stateOf(item.state), item.replay && h("span", { class: "state none" }, t("delivery.replay"))].filter(Boolean) },
        { title: t("delivery.attempts"), cell: item => number(item.attempts), class: "number" },
        { title: t("delivery.next"), cell: item => timeOf(item.next_attempt_at) },
        { title: t("delivery.updated"), cell: item => timeOf(item.updated_at) },
        { title: t("delivery.error"), cell: item => raw(item.last_error, "error"), class: "long" },
        { title: t("act.title"), cell: item => actions(item, refresh), class: "acts" },
    ];
    return table(t("event.deliveries"), columns, deliveries.map(item => row(columns, item)));
}

/// What can be done about a delivery.
function actions(item, refresh) {
    const at = path("deliveries", item.event_id, item.handler);
    const retry = button(t("act.retry"), async () => {
        await post(`${at}/retry`);
        say(t("delivery.retried", { handler: item.handler }));
        await refresh();
    });
    const drop = button(t("act.drop"), async () => {
        if (!await confirm(t("delivery.drop.title"), h("p", {}, t("delivery.drop.text", { handler: item.handler })), t("act.drop"), "danger")) return;
        await post(`${at}/drop`);
        say(t("delivery.dropped", { handler: item.handler }));
        await refresh();
    }, "quiet");
    const replay = button(t("act.replay"), async () => {
        if (!await confirm(t("replay.one.title"), h("p", {}, t("replay.one.text", { handler: item.handler })), t("act.replay"))) return;
        const { queued } = await post("/replay", { ids: [item.event_id], handlers: [item.handler] });
        say(count("replay.queued", queued));
        await refresh();
    });
    const open = item.state === "pending" || item.state === "dead";
    return h("div", { class: "buttons" }, item.state === "done" ? replay : retry, open && drop);
}

/// Text of JSON, with its secrets covered until somebody asks.
export function payload(title, text, id) {
    const place = h("div");
    const secrets = hasSecrets(text);
    let uncovered = false;
    const toggle = h("button", { type: "button", class: "quiet", "aria-pressed": "false", on: { click: () => {
        uncovered = !uncovered;
        toggle.setAttribute("aria-pressed", String(uncovered));
        toggle.textContent = t(uncovered ? "json.hide" : "json.show");
        put(place, view(text, title, uncovered));
    } } }, t("json.show"));
    put(place, view(text, title, false));
    return card(title, h("div", { class: "buttons" }, secrets && toggle,
        id && h("a", { class: "button quiet", href: `/api/v1${path("events", id)}/body`, download: `${id}.json` }, t("json.download"))), place);
}
