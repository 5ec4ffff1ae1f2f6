// What a person looks at first: is all well, and if not, where.

import { find } from "../api.js";
import { h, put } from "../dom.js";
import { ageOf, bytes, number, short, span, timeOf } from "../format.js";
import { count, name, t } from "../language.js";
import { KINDS, card, colour, empty, fail, facts, kindOf, link, raw, row, stateOf, table } from "../pieces.js";
import { columns, line } from "../plot.js";

const FOLLOW = 5_000;
const SPANS = ["1h", "6h", "24h", "7d", "30d"];
const SPAN = "livehook.span";
/// A delivery that waits longer than this is worth a word.
const LATE = 60_000;
/// A kind that was heard of this often in the span has a rhythm that it can break.
const RHYTHM = 8;
/// Part of the room for events or callbacks beyond which it is nearly used up.
const NEARLY = 0.9;

export default async function overview(here) {
    let spanned = SPANS.includes(localStorage.getItem(SPAN)) ? localStorage.getItem(SPAN) : "24h";
    const places = { verdict: h("section", { "aria-label": t("overview.verdict") }), tiles: h("ul", { class: "tiles" }),
        plot: h("div", { class: "place" }), kinds: h("div"), handlers: h("div"), store: h("div") };
    const choose = h("fieldset", { class: "segments" }, h("legend", { class: "unseen" }, t("overview.span")), SPANS.map(value =>
        h("label", {}, h("input", { type: "radio", name: "span", value, checked: value === spanned, on: { change: () => choice(value) } }), h("span", {}, t(`span.${value}`)))));
    here.title(t("page.overview"));
    here.place.append(places.verdict, places.tiles,
        card(t("overview.plot"), choose, places.plot), h("div", { class: "columns" },
            card(t("overview.kinds"), places.kinds), h("div", {},
                card(t("overview.handlers"), places.handlers), card(t("overview.store"), places.store))));
    let latest;
    const refresh = async () => {
        const [stats, handlers] = await Promise.all([find(`/stats?span=${spanned}`, here.signal), find("/handlers", here.signal)]);
        if (!stats) return fail(places.verdict, new Error(t("overview.old")));
        latest = { stats, handlers: handlers ?? [] };
        paint(places, latest);
    };
    const choice = value => {
        spanned = value;
        localStorage.setItem(SPAN, value);
        put(places.plot);
        return refresh().catch(error => here.signal.aborted || fail(places.plot, error));
    };
    let width = 0;
    new ResizeObserver(() => {
        if (latest && places.plot.clientWidth !== width) plot(places.plot, latest.stats);
        width = places.plot.clientWidth;
    }).observe(places.plot);
    await refresh();
    here.every(FOLLOW, refresh);
}

function paint(places, { stats, handlers }) {
    const quiet = silences(stats);
    verdict(places.verdict, problems(stats, handlers, quiet));
    put(places.tiles, tiles(stats));
    // What somebody points at must not change under the pointer.
    if (!places.plot.matches(":hover, :focus-within")) plot(places.plot, stats);
    keepFocus(places.kinds, () => kinds(places.kinds, stats, quiet));
    keepFocus(places.handlers, () => sinks(places.handlers, handlers));
    store(places.store, stats);
}

const keepFocus = (place, act) => place.contains(document.activeElement) || act();

function verdict(place, found) {
    const text = found.map(([tone, ...rest]) => `${tone} ${rest[0]}`).join("\n") || "fine";
    // A live region speaks at every change, so it changes only when there is news.
    if (place.dataset.text === text) return;
    place.dataset.text = text;
    put(place, h("div", { role: "status" }, found.length === 0
        ? h("p", { class: "notice ok strong" }, t("overview.fine"))
        : h("ul", { class: "notices" }, found.map(([tone, text, href]) => h("li", { class: `notice ${tone}` }, href ? link(href, text) : text)))));
}

/// What is not as it should be, the worst first.
function problems({ store, queue, handlers: queues, quarantine, at }, handlers, quiet) {
    const found = [];
    if (!store.ready) found.push(["bad", t("overview.store.trouble", { trouble: store.trouble ?? "" })]);
    if (store.max_bytes && store.bytes > store.max_bytes * NEARLY) found.push(["warn", t("overview.store.full")]);
    if (queue.waiting > queue.count_max * NEARLY || queue.waiting_bytes > queue.bytes_max * NEARLY) found.push(["bad", t("overview.queue.full")]);
    for (const [handler, { dead }] of Object.entries(queues)) {
        if (dead) found.push(["bad", count("overview.dead", dead, number(dead)).replace("{handler}", () => handler), `#/dead?handler=${encodeURIComponent(handler)}`]);
    }
    for (const [handler, { pending, oldest_pending_at: oldest }] of Object.entries(queues)) {
        const paused = handlers.some(found => found.name === handler && found.state === "paused");
        const waits = oldest ? Date.parse(at) - Date.parse(oldest) : 0;
        if (paused) found.push(["warn", t("overview.paused", { handler, n: number(pending) }), "#/handlers"]);
        else if (waits > LATE) found.push(["warn", t("overview.late", { handler, n: number(pending), span: span(waits) }), "#/handlers"]);
    }
    if (quarantine.total) found.push(["warn", count("overview.quarantine", quarantine.total, number(quarantine.total)), "#/quarantine"]);
    for (const [kind, since] of quiet) found.push(["warn", t("overview.silent", { kind: name("kind", kind), span: span(since) }), `#/events?kind=${kind}`]);
    return found;
}

/// Kinds that have been silent for much longer than at any other time of the span.
function silences({ at, events, timeline: { step_seconds: step, kinds: counts } }) {
    const found = new Map();
    for (const [kind, { last_received_at: last }] of Object.entries(events.by_kind)) {
        const heard = (counts[kind] ?? []).flatMap((n, i) => (n ? [i] : []));
        if (!last || heard.length < RHYTHM) continue;
        const gaps = heard.slice(1).map((at, i) => at - heard[i]);
        const silent = Date.parse(at) - Date.parse(last);
        if (silent > (Math.max(...gaps) * 2 + 1) * step * 1000) found.set(kind, silent);
    }
    return found;
}

function tiles({ events, handlers, quarantine, store, streams_live: live, timeline }) {
    const sum = member => Object.values(handlers).reduce((sum, handler) => sum + handler[member], 0);
    const dead = sum("dead");
    const all = timeline.kinds;
    const total = Object.values(all).reduce((sums, counts) => counts.map((n, i) => n + (sums[i] ?? 0)), []);
    const tile = (href, label, value, tone, ...more) => h("li", {}, h("a", { href, class: `tile ${tone}` },
        h("span", { class: "label" }, label), h("span", { class: "value", title: typeof value === "number" ? number(value) : null }, typeof value === "number" ? short(value) : value), ...more));
    return [
        tile("#/streams?state=live", t("tile.live"), live ?? "–", live ? "ok" : ""),
        tile("#/events", t("tile.events"), events.total, "", line(total, "all")),
        tile("#/dead?state=pending", t("tile.pending"), sum("pending"), ""),
        tile("#/dead", t("tile.dead"), dead, dead ? "bad" : ""),
        tile("#/quarantine", t("tile.quarantine"), quarantine.total, quarantine.total ? "warn" : ""),
        tile("#/", t("tile.store"), bytes(store.bytes), store.ready ? "" : "bad"),
    ];
}

function plot(place, { timeline }) {
    const shown = Object.keys(timeline.kinds).filter(kind => timeline.kinds[kind].some(n => n > 0));
    if (shown.length === 0) return put(place, empty(t("plot.nothing")));
    const order = [...KINDS, ...shown.filter(kind => !KINDS.includes(kind))];
    const { element, sums, at } = columns(timeline, order, Math.max(300, place.clientWidth));
    const legend = h("ul", { class: "legend" }, order.filter(kind => shown.includes(kind)).map(kind =>
        h("li", {}, h("a", { href: `#/events?kind=${kind}` }, h("i", { class: `dot ${colour(kind)}` }), name("kind", kind)))));
    const asTable = h("details", {}, h("summary", {}, t("plot.table")));
    asTable.addEventListener("toggle", () => {
        const there = [{ title: t("plot.from"), cell: i => timeOf(new Date(at(i)).toISOString()) }, { title: t("plot.count"), cell: i => number(sums[i]), class: "number" },
            ...order.filter(kind => shown.includes(kind)).map(kind => ({ title: name("kind", kind), cell: i => number(timeline.kinds[kind][i]), class: "number" }))];
        const rows = sums.flatMap((n, i) => (n ? [row(there, i)] : [])).reverse();
        if (asTable.children.length === 1) asTable.append(table(t("overview.plot"), there, rows));
    }, { once: true });
    put(place, element, legend, asTable);
}

function kinds(place, { events, timeline }, quiet) {
    const known = Object.keys(events.by_kind).sort((a, b) => KINDS.indexOf(a) - KINDS.indexOf(b));
    const heard = known.filter(kind => events.by_kind[kind].last_received_at || events.by_kind[kind].count);
    const there = [
        { title: t("event.kind"), cell: kind => link(`#/events?kind=${kind}`, kindOf(kind)) },
        { title: t("kinds.count"), cell: kind => number(events.by_kind[kind].count), class: "number" },
        { title: t("kinds.copies"), cell: kind => number(events.by_kind[kind].duplicates), class: "number wide" },
        { title: t("kinds.rhythm"), cell: kind => line(timeline.kinds[kind] ?? [], colour(kind)), class: "wide" },
        { title: t("kinds.last"), cell: kind => [ageOf(events.by_kind[kind].last_received_at), quiet.has(kind) && [" ", h("span", { class: "state warn" }, t("kinds.silent"))]].filter(Boolean) },
    ];
    const silent = known.filter(kind => !heard.includes(kind));
    put(place, heard.length ? table(t("overview.kinds"), there, heard.map(kind => row(there, kind))) : empty(t("events.none")),
        heard.length > 0 && silent.length > 0 && h("details", { class: "hint" }, h("summary", {}, count("kinds.never", silent.length)), h("p", {}, silent.map(kind => name("kind", kind)).join(" · "))));
}

function sinks(place, handlers) {
    const there = [
        { title: t("handler.name"), cell: item => link("#/handlers", raw(item.name)) },
        { title: t("handler.state"), cell: item => stateOf(item.state) },
        { title: t("handler.pending"), cell: item => number(item.pending), class: "number" },
        { title: t("handler.oldest"), cell: item => (item.oldest_pending_at ? ageOf(item.oldest_pending_at) : h("span", { class: "none" }, "–")) },
        { title: t("handler.dead"), cell: item => (item.dead ? link(`#/dead?handler=${encodeURIComponent(item.name)}`, number(item.dead)) : number(0)), class: "number" },
    ];
    put(place, handlers.length ? table(t("overview.handlers"), there, handlers.map(item => row(there, item))) : empty(t("handlers.none")));
}

function store(place, { store, queue, quarantine, streams_live: live }) {
    const part = (value, most, text) => (most ? [h("meter", { min: 0, max: most, value, high: most * NEARLY, "aria-label": text }), " ", text] : text);
    put(place, facts([
        [t("store.state"), h("span", { class: `state ${store.ready ? "ok" : "bad"}` }, t(store.ready ? "health.ready" : "health.trouble"))],
        store.trouble && [t("store.trouble"), raw(store.trouble, "error")],
        [t("store.size"), part(store.bytes, store.max_bytes, store.max_bytes ? t("store.of", { a: bytes(store.bytes), b: bytes(store.max_bytes) }) : bytes(store.bytes))],
        [t("store.retention"), span(store.retention_seconds * 1000)],
        [t("store.oldest"), timeOf(store.oldest_received_at)],
        [t("store.queue"), part(queue.waiting, queue.count_max, t("store.of", { a: number(queue.waiting), b: number(queue.count_max) }))],
        [t("store.quarantine"), `${number(quarantine.total)} · ${bytes(quarantine.bytes)}`],
        live !== null && live !== undefined && [t("tile.live"), number(live)],
    ]));
}
