// One stream: its pushes one after the other, and what belongs to each.

import { get, now, path, query } from "../api.js";
import { h, outside, put, s } from "../dom.js";
import { ageOf, clock, number, span, timeOf } from "../format.js";
import { covered } from "../json.js";
import { count, name, t } from "../language.js";
import { card, empty, eventLink, facts, kindOf, link, raw, stateOf } from "../pieces.js";
import { cause, lasted } from "./streams.js";

const FOLLOW = 4_000;
const HEIGHT = 76;

export default async function stream(here) {
    const [domain, app, stream] = here.rest;
    const at = path("streams", part(domain), part(app), streamPart(stream));
    const follow = `#/events${query({ domain, app, stream })}`;
    here.title(stream, link(follow, t("stream.events")));
    const place = h("div", { class: "page" });
    here.place.append(place);
    let last = "";
    const refresh = async () => {
        const text = JSON.stringify(await get(at, here.signal));
        // A push that goes on grows even when nothing new is known of it.
        if (text === last && !JSON.parse(text).timeline?.some(push => push.state === "live")) return;
        if (last && place.contains(document.activeElement)) return;
        last = text;
        paint(place, JSON.parse(text));
    };
    await refresh();
    here.every(FOLLOW, refresh);
}

/// A path has no parts that are empty, and browsers resolve `.` and `..`, even encoded ones: these are written with a dash
/// behind them, and what is one of them and dashes by itself with one dash more.
const part = name => (/^\.{0,2}-*$/.test(name) ? `${name}-` : name);

/// The last part: a stream has a name, so that dashes alone are one.
const streamPart = name => (/^-*$/.test(name) ? name : part(name));

function paint(place, found) {
    const pushes = found.timeline ?? [];
    const problems = found.problems ?? [];
    const others = found.other_recordings ?? [];
    const opened = new Set([...place.querySelectorAll("details[open]")].map(details => details.dataset.key));
    put(place, h("div", { class: "headline" }, stateOf(found.state), raw([found.domain, found.app].filter(Boolean).join(" / "))),
        card(t("stream.now"), facts([
            [t("stream.started"), timeOf(found.started_at)],
            [t("stream.ended"), timeOf(found.ended_at)],
            [t("stream.duration"), lasted(found)],
            [t("stream.end"), found.end ? [cause(found.end), " ", h("span", { class: "hint" }, name("class", found.end.class))] : cause(null)],
            [t("event.sequence"), raw(found.sequence)],
            [t("stream.pushes"), number(found.pushes)],
            [t("stream.recordings"), number(found.recordings)],
            [t("stream.last"), ageOf(found.last_event_at)],
            found.screencapture_url && [t("stream.screencapture"), address(found.screencapture_url)],
        ])),
        card(t("stream.timeline"), pushes.length ? [drawing(pushes), h("ol", { class: "pushes" }, pushes.map((push, i) => entry(push, i === 0, opened)))] : empty(t("stream.nothing")),
            found.pushes > pushes.length && h("p", { class: "hint" }, count("stream.older", found.pushes - pushes.length))),
        others.length > 0 && card(t("stream.others"), h("ul", { class: "plain" }, others.map(recording))),
        problems.length > 0 && card(t("stream.problems"), troubles(problems)));
}

/// The pushes as bars on a line of time, recordings below, problems as marks.
function drawing(pushes) {
    const known = pushes.filter(push => push.started_at || push.ended_at);
    if (known.length === 0) return null;
    const begin = push => Date.parse(push.started_at ?? push.ended_at);
    const end = push => (push.ended_at ? Date.parse(push.ended_at) : push.state === "live" ? Math.max(now(), begin(push)) : begin(push));
    const from = Math.min(...known.map(begin)), to = Math.max(...known.map(end), from + 1000);
    const x = at => 1 + (998 * (Math.min(Math.max(at, from), to) - from)) / (to - from);
    const bar = (a, b, y, height, className, title) => s("rect", { x: x(a), y, width: Math.max(3, x(b) - x(a)), height, rx: 2, class: className }, s("title", {}, title));
    const marks = known.flatMap(push => [
        bar(begin(push), end(push), 14, 26, `push ${push.state === "live" ? "live" : (push.end?.class ?? "ended")}`, `${clock(begin(push))} – ${push.ended_at ? clock(push.ended_at) : "…"}`),
        ...(push.recordings ?? []).filter(file => file.started_at && file.ended_at).map(file =>
            bar(Date.parse(file.started_at), Date.parse(file.ended_at), 44, 8, `file ${file.abnormal ? "abnormal" : ""}`, file.format ?? "")),
        ...(push.problems ?? []).filter(problem => problem.at).map(problem =>
            s("circle", { cx: x(Date.parse(problem.at)), cy: 7, r: 4, class: "trouble" }, s("title", {}, problem.kind))),
    ]);
    return h("figure", { class: "timeline" }, s("svg", { viewBox: `0 0 1000 ${HEIGHT - 20}`, preserveAspectRatio: "none", role: "img", "aria-label": t("stream.drawing", { n: known.length }) }, marks),
        h("div", { class: "ends" }, timeOf(new Date(from).toISOString()), h("span", { class: "hint" }, span(to - from)), timeOf(new Date(to).toISOString())));
}

function entry(push, first, opened) {
    const { recordings = [], problems = [] } = push;
    const key = `${push.sequence ?? ""} ${push.started_at ?? ""}`;
    const many = [recordings.length > 0 && count("stream.files", recordings.length), problems.length > 0 && count("stream.troubles", problems.length)].filter(Boolean);
    return h("li", {}, h("details", { open: first || opened.has(key), data: { key } },
        h("summary", {}, stateOf(push.state), " ", timeOf(push.started_at), " – ", push.ended_at ? timeOf(push.ended_at) : "…", " · ", lasted(push),
            push.end && [" · ", cause(push.end), " ", h("span", { class: "hint" }, name("class", push.end.class))], many.length > 0 && h("span", { class: "hint" }, ` · ${many.join(" · ")}`)),
        h("div", { class: "inside" },
            facts([[t("event.sequence"), raw(push.sequence)],
                push.screencapture_url && [t("stream.screencapture"), [address(push.screencapture_url), " ", timeOf(push.screencapture_at)]]]),
            recordings.length > 0 && [h("h3", {}, t("stream.recordings")), h("ul", { class: "plain" }, recordings.map(recording))],
            problems.length > 0 && [h("h3", {}, t("stream.problems")), troubles(problems)])));
}

/// A link whose words keep its secrets to themselves.
const address = url => outside(url, covered(url));

const recording = file => h("li", {}, file.abnormal && [h("span", { class: "state bad" }, t("stream.abnormal")), " "],
    file.url ? address(file.url) : raw(file.file_id), " ", file.format && raw(file.format, "hint"), " ",
    file.duration_ms !== null && file.duration_ms !== undefined && span(file.duration_ms), " ", file.event_id && eventLink(file.event_id));

const troubles = problems => h("ul", { class: "plain" }, problems.map(problem => h("li", {},
    timeOf(problem.at), " ", kindOf(problem.kind), " ", problem.detail && raw(problem.detail, "error"), " ", problem.event_id && eventLink(problem.event_id))));
