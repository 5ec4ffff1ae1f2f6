// What several pages are made of.

import { Offline } from "./api.js";
import { h, put } from "./dom.js";
import { name, t } from "./language.js";

export const KINDS = [
    "stream-push", "stream-interruption", "recording", "screencapture", "image-audit", "audio-audit", "push-error",
    "recording-status", "relay", "subtitles", "monitor", "quality-control", "recording-exception",
    "evaluation-threshold", "evaluation-average", "smart-erase", "summary", "highlight", "unknown",
];

export const REASONS = [
    "token", "too-large", "empty", "malformed-json", "no-event-type", "signature-malformed", "signature-missing",
    "signature-mismatch", "signature-expired", "signature-future",
];

/// Where a kind finds its colour: grey where it is none we know.
export const colour = kind => (kind === "unknown" || !KINDS.includes(kind) ? "c9" : `c${KINDS.indexOf(kind) % 12}`);

export const kindOf = kind => h("span", { class: "kind" }, h("i", { class: `dot ${colour(kind)}` }), name("kind", kind));

const TONES = {
    pending: "warn", done: "ok", dead: "bad", dropped: "none", running: "ok", paused: "warn", live: "ok", ended: "none",
    verified: "ok", unsigned: "none", forced: "warn", cancelled: "none", failed: "bad",
};

/// A state as a word with a colour; the word alone says it.
export const stateOf = state => h("span", { class: `state ${TONES[state] ?? "none"}` }, name("state", state));

/// Text of strangers: isolated, cut by the page where it is long, whole at a touch.
export function raw(text, className = "") {
    if (text === null || text === undefined || text === "") return h("span", { class: "none" }, "–");
    return h("bdi", { class: `raw ${className}`, title: text.length > 24 ? text.slice(0, 500) : null }, String(text));
}

export const link = (href, ...children) => h("a", { href }, ...children);

/// The last letters of an id tell ids apart.
export const eventLink = id => h("a", { href: `#/events/${id}`, class: "id", title: id }, `…${id.slice(-8)}`);

export const streamHref = ({ domain, app, stream }) =>
    `#/streams/${[domain, app, stream].map(part => encodeURIComponent(part ?? "")).join("/")}`;

export function streamLink(row) {
    if (!row.stream) return raw(null);
    return h("a", { href: streamHref(row), class: "raw", title: [row.domain, row.app, row.stream].filter(Boolean).join(" / ") },
        h("bdi", {}, row.stream));
}

export const button = (text, act, className = "") =>
    h("button", { type: "button", class: className, on: { click: event => busy(event.currentTarget, act) } }, text);

/// Runs an action once at a time, and says what went wrong.
async function busy(element, act) {
    if (element.getAttribute("aria-disabled") === "true") return;
    // Not `disabled`: the focus would get lost.
    element.setAttribute("aria-disabled", "true");
    try {
        await act();
    } catch (error) {
        say(words(error), "bad");
    } finally {
        element.removeAttribute("aria-disabled");
    }
}

/// What an error means for the reader.
export function words(error) {
    if (error instanceof Offline) return t("problem.offline");
    if (error.status) return t(`problem.${error.status}` , { detail: error.message }) === `problem.${error.status}`
        ? t("problem.other", { status: error.status, detail: error.message })
        : t(`problem.${error.status}`, { detail: error.message });
    if (error.name === "AbortError") return t("problem.offline");
    return t("problem.page", { detail: error.message });
}

export const notice = (text, tone = "none", ...more) =>
    h("div", { class: `notice ${tone}`, role: tone === "bad" ? "alert" : null }, text, ...more);

export const empty = text => h("p", { class: "empty" }, text);

export const card = (title, ...children) => {
    const id = `s${++cards}`;
    return h("section", { class: "card", "aria-labelledby": id }, h("h2", { id }, title), ...children);
};
let cards = 0;

/// A list of names and what they are.
export const facts = pairs => h("dl", { class: "facts" },
    pairs.filter(Boolean).map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value))));

/// A table that scrolls by itself where it does not fit.
export function table(caption, columns, rows) {
    const head = columns.map(column => h("th", { scope: "col", class: column.class }, column.title));
    return h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": caption }, h("table", {},
        h("caption", { class: "unseen" }, caption), h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows)));
}

export const row = (columns, item) =>
    h("tr", {}, columns.map(column => h("td", { class: column.class, data: { title: column.title } }, column.cell(item))));

/// A field with its label.
export function field(label, control) {
    const id = `f${++fields}`;
    control.id = id;
    return h("div", { class: "field" }, h("label", { for: id }, label), control);
}
let fields = 0;

export const select = (name, options, value) => h("select", { name, value: null },
    options.map(([key, text]) => h("option", { value: key, selected: key === (value ?? "") }, text)));

export const input = (name, value = "", type = "text") =>
    h("input", { name, type, value, autocomplete: "off", spellcheck: "false", step: type === "datetime-local" ? 1 : null });

/// While somebody types, nothing is asked.
const TYPING = 400;

/// Tells the name and the value of a control when it has changed.
export function watch(controls, changed) {
    for (const [key, control] of Object.entries(controls)) {
        let typing;
        const value = () => (control.type === "datetime-local" ? fromLocal(control.value) : control.value.trim());
        const isSelect = control.tagName === "SELECT";
        control.addEventListener(isSelect ? "change" : "input", () => {
            clearTimeout(typing);
            typing = setTimeout(() => changed(key, value()), isSelect ? 0 : TYPING);
        });
    }
}

/// A moment of the API as `datetime-local` wants it, and back.
export function toLocal(iso) {
    const date = new Date(iso ?? "");
    if (Number.isNaN(date.getTime())) return "";
    return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}
export const fromLocal = text => (text ? new Date(text).toISOString() : "");

/// Says something in passing, to eyes and to ears.
export function say(text, tone = "ok") {
    const toast = h("div", { class: `toast ${tone}` }, text);
    const place = document.getElementById(tone === "bad" ? "alarms" : "toasts");
    place?.append(toast);
    setTimeout(() => toast.remove(), tone === "bad" ? 12_000 : 6_000);
}

/// Asks before something is done that cannot be taken back. Resolves to whether to go on.
export function confirm(title, body, yes, tone = "") {
    return new Promise(resolve => {
        const dialog = h("dialog", { "aria-labelledby": "ask", class: "ask" }, h("form", { method: "dialog" },
            h("h2", { id: "ask" }, title), body,
            h("div", { class: "buttons" },
                h("button", { value: "no", class: "quiet" }, t("act.cancel")),
                h("button", { value: "yes", class: tone }, yes))));
        open(dialog, () => resolve(dialog.returnValue === "yes"));
    });
}

/// Shows something above the page.
export function show(title, body) {
    const dialog = h("dialog", { "aria-labelledby": "shown", class: "wide" }, h("form", { method: "dialog" },
        h("div", { class: "bar" }, h("h2", { id: "shown" }, title), h("button", { value: "no", class: "quiet" }, t("act.close")))), body);
    open(dialog, () => {});
}

function open(dialog, closed) {
    dialog.addEventListener("close", () => {
        dialog.remove();
        closed();
    });
    document.body.append(dialog);
    dialog.showModal();
}

/// Replaces what stands somewhere by an error in words.
export const fail = (place, error) => put(place, notice(words(error), "bad"));
