// Makes elements. Whatever a page shows passes through here, and text only ever becomes text.

const SVG = "http://www.w3.org/2000/svg";

/// An element with attributes and children. `on` holds listeners, `data` data attributes; false, null and undefined are
/// left out. Children are nodes, or anything else as its text.
export const h = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);

/// The same for SVG.
export const s = (name, attributes, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

/// Puts other children into an element.
export function put(element, ...children) {
    element.replaceChildren(...children.flat(Infinity).filter(isThere).map(seen));
    return element;
}

/// A link to an address that came from outside: only to the web, and without telling where from. All else stays text.
export function outside(address, text = address) {
    let url;
    try {
        url = new URL(address);
    } catch {
        url = null;
    }
    const web = url && (url.protocol === "https:" || url.protocol === "http:");
    if (!web) return h("bdi", { class: "raw" }, text);
    return h("a", { href: url.href, rel: "noopener noreferrer", target: "_blank", class: "raw" }, h("bdi", {}, text));
}

function fill(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes ?? {})) set(element, name, value);
    for (const child of children.flat(Infinity)) if (isThere(child)) element.append(seen(child));
    return element;
}

function set(element, name, value) {
    if (!isThere(value)) return;
    if (name === "on") for (const [event, act] of Object.entries(value)) element.addEventListener(event, act);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
}

/// Text that turns the direction of what follows, or that nobody sees, shows as what it is.
const seen = child => (typeof child === "string" ? child.replace(UNSEEN, code) : child);
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const code = character => `⟨U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;

const isThere = value => value !== null && value !== undefined && value !== false;
