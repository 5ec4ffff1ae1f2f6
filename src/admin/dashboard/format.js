// Numbers, sizes and times as people read them.

import { now } from "./api.js";
import { h } from "./dom.js";
import { locale, t } from "./language.js";

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

export const number = n => new Intl.NumberFormat(locale()).format(n);

/// A number that must not take more than a few letters.
export const short = n => new Intl.NumberFormat(locale(), { notation: "compact", maximumFractionDigits: 1 }).format(n);

export function bytes(n) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    const power = n < 1 ? 0 : Math.min(Math.floor(Math.log(n) / Math.log(1024)), units.length - 1);
    const digits = power === 0 || n / 1024 ** power >= 100 ? 0 : 1;
    const value = new Intl.NumberFormat(locale(), { maximumFractionDigits: digits }).format(n / 1024 ** power);
    return `${value}\u00a0${units[power]}`;
}

/// A span in its two largest units.
export function span(ms) {
    const parts = [["day", DAY], ["hour", HOUR], ["minute", MINUTE], ["second", SECOND]];
    const at = parts.findIndex(([, length]) => Math.abs(ms) >= length);
    if (at < 0) return unit("second", 0);
    const [[large, length], next] = [parts[at], parts[at + 1]];
    const rest = next ? Math.floor((ms % length) / next[1]) : 0;
    return unit(large, Math.floor(ms / length)) + (rest ? `\u00a0${unit(next[0], rest)}` : "");
}

const unit = (name, n) =>
    new Intl.NumberFormat(locale(), { style: "unit", unit: name, unitDisplay: "narrow" }).format(n);

/// How long ago, in one unit.
export function ago(ms) {
    if (ms < 5 * SECOND) return t("time.now");
    const relative = new Intl.RelativeTimeFormat(locale(), { numeric: "always", style: "narrow" });
    for (const [name, length] of [["day", DAY], ["hour", HOUR], ["minute", MINUTE]]) {
        if (ms >= length) return relative.format(-Math.floor(ms / length), name);
    }
    return relative.format(-Math.floor(ms / SECOND), "second");
}

/// Local date and time of day.
export const moment = at =>
    new Intl.DateTimeFormat(locale(), { dateStyle: "medium", timeStyle: "medium" }).format(new Date(at));

const withDay = { month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
const withoutDay = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };

/// Local time of day, with the date where that is not today.
export function clock(at) {
    const date = new Date(at);
    const today = date.toDateString() === new Date(now()).toDateString();
    return new Intl.DateTimeFormat(locale(), today ? withoutDay : withDay).format(date);
}

/// A moment as its time of day; its age and its UTC are a touch away.
export function timeOf(iso) {
    if (!iso) return h("span", { class: "none" }, "–");
    return h("time", { datetime: iso, title: `${moment(iso)}\n${iso}` }, clock(iso));
}

/// A moment as its age, which goes on.
export function ageOf(iso) {
    if (!iso) return h("span", { class: "none" }, t("time.never"));
    const element = h("time", { datetime: iso, title: `${moment(iso)}\n${iso}`, data: { age: "" } });
    element.textContent = ago(now() - Date.parse(iso));
    return element;
}

/// How long something has lasted that began at a moment and goes on.
export function lastingSince(iso) {
    const element = h("time", { datetime: iso, title: `${moment(iso)}\n${iso}`, data: { lasting: "" } });
    element.textContent = lasting(iso);
    return element;
}

const lasting = iso => span(Math.max(0, now() - Date.parse(iso)));

/// Lets all ages and durations on the page go on.
export function tick() {
    for (const element of document.querySelectorAll("time[data-age], time[data-lasting]")) {
        const text = "lasting" in element.dataset ? lasting(element.dateTime) : ago(now() - Date.parse(element.dateTime));
        if (element.textContent !== text) element.textContent = text;
    }
}
