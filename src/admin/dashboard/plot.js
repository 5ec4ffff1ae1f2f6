// Draws counts over time, and a small line for each kind.

import { h, put, s } from "./dom.js";
import { locale, name, t } from "./language.js";
import { number, short } from "./format.js";
import { colour } from "./pieces.js";

const HEIGHT = 220;
const LEFT = 44, RIGHT = 8, TOP = 10, BOTTOM = 24;

/// Columns of events, one part for each kind, in a picture so many pixels wide. The arrow keys walk through them, and what is under them is read out.
export function columns({ from, step_seconds: step, kinds }, order, width) {
    const shown = order.filter(kind => kinds[kind]?.some(n => n > 0));
    const length = Math.max(1, ...Object.values(kinds).map(counts => counts.length));
    const sums = Array.from({ length }, (_, i) => shown.reduce((sum, kind) => sum + (kinds[kind][i] ?? 0), 0));
    const top = rounded(Math.max(1, ...sums));
    const x = i => LEFT + (i * (width - LEFT - RIGHT)) / length;
    const y = n => HEIGHT - BOTTOM - (n * (HEIGHT - TOP - BOTTOM)) / top;
    const at = i => Date.parse(from) + i * step * 1000;

    const marker = s("rect", { class: "marker", x: 0, y: TOP, width: x(1) - x(0), height: HEIGHT - TOP - BOTTOM, visibility: "hidden" });
    const picture = s("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, class: "plot", tabindex: 0, role: "img",
        "aria-label": t("plot.label"), "aria-describedby": "readout" },
    marker, scale(top, y, width), times(length, at, x, step, width), bars(shown, kinds, length, x, y));
    const readout = h("p", { id: "readout", class: "readout", role: "status" }, t("plot.hint"));

    let index = null;
    const point = i => {
        index = i === null ? null : Math.min(Math.max(i, 0), length - 1);
        marker.setAttribute("visibility", index === null ? "hidden" : "visible");
        if (index === null) return put(readout, t("plot.hint"));
        marker.setAttribute("x", x(index));
        const parts = shown.filter(kind => kinds[kind][index] > 0);
        put(readout, h("b", {}, `${label(at(index), step)} – ${label(at(index + 1), step)}`), ` ${number(sums[index])}`,
            parts.map(kind => h("span", {}, h("i", { class: `dot ${colour(kind)}` }), `${name("kind", kind)} ${number(kinds[kind][index])}`)));
    };
    picture.addEventListener("pointermove", event => {
        const box = picture.getBoundingClientRect();
        point(Math.floor(((event.clientX - box.left) / box.width * width - LEFT) / (x(1) - x(0))));
    });
    picture.addEventListener("pointerleave", () => point(null));
    picture.addEventListener("blur", () => point(null));
    picture.addEventListener("keydown", event => {
        const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
        if (!(event.key in steps)) return;
        event.preventDefault();
        point((index ?? (event.key === "ArrowRight" ? -1 : length)) + steps[event.key]);
    });
    return { element: h("figure", {}, picture, readout), sums, at };
}

/// A line of counts without any scale.
export function line(counts, className) {
    const [width, height] = [96, 20];
    const top = Math.max(1, ...counts);
    const step = width / Math.max(1, counts.length - 1);
    const points = counts.map((n, i) => `${(i * step).toFixed(1)},${(height - 1 - (n * (height - 3)) / top).toFixed(1)}`);
    return s("svg", { viewBox: `0 0 ${width} ${height}`, class: `spark ${className}`, "aria-hidden": "true", preserveAspectRatio: "none" },
        s("polyline", { points: points.join(" ") }));
}

function bars(shown, kinds, length, x, y) {
    const thick = Math.max(1, (x(1) - x(0)) * 0.82);
    const below = new Array(length).fill(0);
    return shown.map(kind => s("path", { class: `bar ${colour(kind)}`, d: kinds[kind].map((n, i) => {
        if (!n) return "";
        const [low, high] = [y(below[i]), y(below[i] += n)];
        return `M${x(i).toFixed(2)} ${low.toFixed(2)}h${thick.toFixed(2)}V${high.toFixed(2)}h${(-thick).toFixed(2)}z`;
    }).join("") }));
}

function scale(top, y, width) {
    return [0, 0.5, 1].map(part => s("g", {},
        s("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(top * part), y2: y(top * part) }),
        s("text", { class: "tick", x: LEFT - 6, y: y(top * part) + 4, "text-anchor": "end" }, short(top * part))));
}

function times(length, at, x, step, width) {
    const every = Math.max(1, Math.ceil(length / (width / 110)));
    return Array.from({ length: Math.ceil(length / every) }, (_, n) => n * every).map(i =>
        s("text", { class: "tick", x: x(i), y: HEIGHT - 6 }, label(at(i), step)));
}

/// The next number above that looks well on a scale.
function rounded(n) {
    const power = 10 ** Math.floor(Math.log10(n));
    const step = [1, 1.2, 1.6, 2, 3, 4, 6, 8, 10].find(step => step * power >= n);
    return n <= 10 ? Math.max(2, 2 * Math.ceil(n / 2)) : step * power;
}

function label(at, step) {
    const long = step >= 3600;
    const parts = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
    if (long) Object.assign(parts, { month: "numeric", day: "numeric" });
    return new Intl.DateTimeFormat(locale(), parts).format(at);
}
