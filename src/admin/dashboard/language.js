// Says things in the language of the reader.

import en from "./en.js";
import zh from "./zh.js";

const TABLES = { en, zh };
const KEY = "livehook.language";

let current = choose();

/// The text of a key, its `{names}` filled in.
export function t(key, values) {
    const text = TABLES[current][key] ?? key;
    return values ? text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole) : text;
}

/// The text of a key that may be missing, as with what a newer service says.
export const name = (group, value) => TABLES[current][`${group}.${value}`] ?? String(value);

/// The text for so many: `{n}` is the number, and one has a text of its own.
export function count(key, n, shown) {
    return t(n === 1 && `${key}.one` in TABLES[current] ? `${key}.one` : key, { n: shown ?? n });
}

export const language = () => current;

/// For numbers and dates.
export const locale = () => (current === "zh" ? "zh-CN" : "en-GB");

export function setLanguage(language) {
    current = language;
    localStorage.setItem(KEY, language);
    mark();
}

function choose() {
    const kept = localStorage.getItem(KEY);
    if (kept in TABLES) return kept;
    const first = navigator.languages.find(wanted => /^(zh|en)\b/i.test(wanted)) ?? "en";
    return first.toLowerCase().startsWith("zh") ? "zh" : "en";
}

function mark() {
    document.documentElement.lang = locale();
}

mark();
