// Shows JSON exactly as it was written: numbers of any size keep their digits, repeated members stay, nothing is
// reordered. Nothing here recurses, since a body may be nested a hundred thousand deep.

import { h, outside } from "./dom.js";
import { t } from "./language.js";

/// Beyond this depth lines are no longer indented further.
const INDENT_MAX = 24;
/// Letters shown at once; a larger body is shown in steps.
const SHOWN_MAX = 60_000;
const HIDDEN = "••••••";

/// Members whose text is a secret as a whole: parameters of the push URL, and signatures.
const SECRET_NAME = /^(stream_?param|sign(ature)?|.*secret.*|.*passw(or)?d.*|.*token.*|auth.*key)$/i;
/// Parameters inside URLs and query-like text.
const SECRET_PARAMETER = /([?&\s"';,]|^|%26|%3F)((?:tx|ws)?(?:secret|time)|sign(?:ature)?|q-signature|token|(?:access_|auth_|secret)?key|passw(?:or)?d)(=|%3D)([^&\s"'\\;,%]+(?:%(?!26)[^&\s"'\\;,%]*)*)/gi;

/// A name and the beginning of its text, as in JSON that is whole, broken, or text inside JSON. A name is no longer than
/// this, lest a stranger makes the search long.
const MEMBER = /(\\{0,7})(["'])([^"'\\]{1,64})\1\2\s*:\s*\1\2/g;
/// The rest of a text up to its end, or to the end of all where it has none.
const REST = { '"': /(?:[^"\\]|\\[^])*/y, "'": /(?:[^'\\]|\\[^])*/y };
/// The same where quotes are escaped themselves.
const REST_INSIDE = { '"': /[^"]*/y, "'": /[^']*/y };

const TOKEN = /[\s]+|"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],:]|[^\s{}[\],:"]+|"/gsy;

/// Text with the secrets it may carry covered. It may be JSON, or what is left of it.
export const covered = text => membersCovered(text).replace(SECRET_PARAMETER, `$1$2$3${HIDDEN}`);

function membersCovered(text) {
    const member = new RegExp(MEMBER.source, MEMBER.flags);
    let shown = "", from = 0;
    for (let match = member.exec(text); match; match = member.exec(text)) {
        const [all, escape, quote, name] = match;
        // What opens the text of this member may as well open the name of the next: quotes are not told apart in what is broken.
        const begin = match.index + all.length;
        member.lastIndex = begin - 1;
        if (!SECRET_NAME.test(name)) continue;
        const rest = new RegExp((escape ? REST_INSIDE : REST)[quote].source, "y");
        rest.lastIndex = begin;
        const value = rest.exec(text)[0];
        shown += text.slice(from, begin) + (value && HIDDEN);
        from = member.lastIndex = begin + value.length;
    }
    return shown + text.slice(from);
}

/// The text of one member of the object that `text` is, exactly as it stands there.
export function member(text, name) {
    let depth = 0, begin = -1, found = false, previous = "";
    for (const [token, at] of tokens(text)) {
        const opens = token === "{" || token === "[";
        const closes = token === "}" || token === "]";
        if (begin >= 0 && ((depth === 1 && token === ",") || (depth === 1 && closes))) return text.slice(begin, at);
        if (found && begin < 0) begin = at;
        if (depth === 1 && token === ":" && previous === JSON.stringify(name)) found = true;
        depth += opens ? 1 : closes ? -1 : 0;
        previous = token;
    }
    return null;
}

/// An element that shows JSON, its secrets covered until `uncovered`.
export function view(text, label, uncovered) {
    const code = h("code", {});
    const lines = layOut(text, uncovered);
    const more = h("button", { type: "button", class: "quiet more", on: { click: () => show() || more.remove() } }, t("json.more"));
    const show = () => {
        for (let shown = 0; shown < SHOWN_MAX; ) {
            const line = lines.next();
            if (line.done) return false;
            code.append(line.value);
            shown += line.value.textContent.length;
        }
        return true;
    };
    const pre = h("pre", { dir: "ltr", tabindex: 0, role: "group", "aria-label": label }, code);
    return h("div", { class: "json" }, pre, show() && more);
}

/// Whether there is anything in it that `view` covers.
export function hasSecrets(text) {
    let name = "", key = "";
    for (const [token] of tokens(text)) {
        if (token === ":") key = name;
        else if (token === "," || token === "{" || token === "[") key = "";
        else if (token.startsWith('"') && isSecret(key, token)) return true;
        name = token;
    }
    return false;
}

function* layOut(text, uncovered) {
    let depth = 0, key = "", previous = "", line = h("span", { class: "line" });
    const all = [...tokens(text)];
    for (let i = 0; i < all.length; i++) {
        const [token] = all[i], next = all[i + 1]?.[0];
        const opens = token === "{" || token === "[";
        const closes = token === "}" || token === "]";
        if (closes) {
            depth--;
            if (previous !== "{" && previous !== "[") {
                yield ended(line);
                line = begun(depth);
            }
        }
        if (token === ":") key = previous;
        line.append(shown(token, next === ":", previous === ":" ? key : "", uncovered));
        if (opens) depth++;
        if ((opens && next !== "}" && next !== "]") || token === ",") {
            yield ended(line);
            line = begun(depth);
        }
        previous = token;
    }
    yield ended(line);
}

function shown(token, isName, key, uncovered) {
    if (isName) return h("span", { class: "name" }, h("bdi", {}, token));
    if (token === ":") return ": ";
    if (/^[{}[\],]$/.test(token)) return h("span", { class: "mark" }, token);
    if (!token.startsWith('"')) return h("span", { class: "plain" }, token);
    const text = uncovered ? token : cover(key, token);
    const address = /^"https?:\/\/[^\s"\\]+"$/.test(token) && text === token;
    return h("span", { class: "text" }, address ? ['"', outside(text.slice(1, -1)), '"'] : h("bdi", {}, text));
}

function cover(key, token) {
    return isNamed(key) && token.length > 2 ? `"${HIDDEN}"` : covered(token);
}

const isSecret = (key, token) => cover(key, token) !== token;

/// Whether a name, still in its quotes, is that of a secret.
function isNamed(token) {
    if (!token) return false;
    try {
        return SECRET_NAME.test(JSON.parse(token));
    } catch {
        return false;
    }
}

const begun = depth => h("span", { class: "line" }, "  ".repeat(Math.min(Math.max(depth, 0), INDENT_MAX)));

function ended(line) {
    line.append("\n");
    return line;
}

function* tokens(text) {
    const pattern = new RegExp(TOKEN.source, TOKEN.flags);
    for (let match = pattern.exec(text); match; match = pattern.exec(text)) {
        if (match[0].trim()) yield [match[0], match.index];
    }
}
