// The frame around the pages: navigation, health, language, theme, login.

import { find, get, news, post, remove } from "./api.js";
import { h, put } from "./dom.js";
import { number, short, tick } from "./format.js";
import { language, setLanguage, t } from "./language.js";
import { button, fail, field, notice, say, words } from "./pieces.js";
import dead from "./pages/dead.js";
import event from "./pages/event.js";
import events from "./pages/events.js";
import handlers from "./pages/handlers.js";
import overview from "./pages/overview.js";
import quarantine from "./pages/quarantine.js";
import stream from "./pages/stream.js";
import streams from "./pages/streams.js";

/// The first part of the address, the page for it, and the page for what is below it.
const PAGES = {
    "": [overview], events: [events, event], streams: [streams, stream], dead: [dead], quarantine: [quarantine], handlers: [handlers],
};
const THEMES = ["auto", "light", "dark"];
const THEME = "livehook.theme";
const TICK = 5_000;
const PULSE = 10_000;

const main = h("main", { id: "main", tabindex: -1 });
const health = h("p", { id: "health", role: "status" });
const offline = h("div", { id: "offline", role: "alert" });
let session = { token_required: false, logged_in: false };
let leaving = new AbortController();

start();

async function start() {
    setTheme(localStorage.getItem(THEME) ?? "auto");
    frame();
    news.addEventListener("login", () => askToLogIn(t("login.expired")));
    news.addEventListener("offline", () => put(offline, t("problem.offline")));
    news.addEventListener("online", () => put(offline));
    addEventListener("hashchange", route);
    setInterval(tick, TICK);
    setInterval(() => document.hidden || pulse(), PULSE);
    document.addEventListener("visibilitychange", () => document.hidden || pulse());
    await enter();
}

async function enter() {
    try {
        session = await get("/session");
    } catch (error) {
        fail(main, error);
        setTimeout(enter, TICK);
        return;
    }
    if (session.token_required && !session.logged_in) return askToLogIn();
    frame();
    pulse();
    route();
}

/// Draws what stands around the pages.
function frame() {
    const open = !session.token_required || session.logged_in;
    put(document.body,
        h("a", { class: "skip", href: "#main", on: { click: skip } }, t("frame.skip")),
        h("header", { class: "top" },
            h("a", { href: "#/", class: "brand" }, h("img", { src: "/dashboard/icon.svg", alt: "", width: 24, height: 24 }), "livehook"),
            health,
            h("div", { class: "tools" }, themes(), languages(), session.logged_in && button(t("frame.logout"), logOut, "quiet"))),
        offline,
        open && h("nav", { "aria-label": t("frame.pages") }, h("ul", {}, Object.keys(PAGES).map(entry))),
        main,
        h("div", { id: "toasts", role: "status", "aria-live": "polite" }),
        h("div", { id: "alarms", role: "alert" }));
    markCurrent();
}

function entry(page) {
    return h("li", {}, h("a", { href: `#/${page}`, data: { page } }, t(`page.${page || "overview"}`),
        h("span", { class: "badge", data: { badge: page }, hidden: true })));
}

function skip(event) {
    event.preventDefault();
    main.focus();
}

function themes() {
    const current = localStorage.getItem(THEME) ?? "auto";
    return choice(t("frame.theme"), THEMES.map(theme => [theme, t(`theme.${theme}`)]), current, theme => {
        localStorage.setItem(THEME, theme);
        setTheme(theme);
    });
}

function languages() {
    return choice(t("frame.language"), [["en", "English"], ["zh", "中文"]], language(), language => {
        setLanguage(language);
        frame();
        pulse();
        if (session.token_required && !session.logged_in) {
            // The form is in the language of before.
            put(main);
            askToLogIn();
        } else route();
        document.querySelector('.tools select[name="language"]').focus();
    }, "language");
}

function choice(label, options, current, act, name = "theme") {
    return h("select", { name, "aria-label": label, on: { change: event => act(event.target.value) } },
        options.map(([value, text]) => h("option", { value, selected: value === current }, text)));
}

function setTheme(theme) {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
}

/// Shows the page of the address.
async function route() {
    if (session.token_required && !session.logged_in) return;
    leaving.abort();
    leaving = new AbortController();
    const { signal } = leaving;
    const [, address, search = ""] = location.hash.match(/^#\/?([^?]*)\??(.*)$/) ?? [null, ""];
    const [first, ...rest] = address.split("/").map(part => decode(part));
    const page = PAGES[first]?.[rest.length && rest.some(Boolean) ? 1 : 0];
    markCurrent();
    const place = h("div", { class: `page ${first || "overview"}` });
    put(main, place);
    if (!page) {
        title(t("page.missing"), place);
        return place.append(notice(t("page.missing.text"), "warn"));
    }
    const here = { place, rest, query: new URLSearchParams(search), signal, title: (text, ...more) => title(text, place, ...more),
        every: (wait, act) => every(wait, act, signal), keep: query => keep(first, query) };
    try {
        await page(here);
    } catch (error) {
        if (!signal.aborted) place.append(notice(words(error), "bad"));
    }
}

/// The heading of a page, which gets the focus: so a screen reader begins there.
function title(text, place, ...more) {
    const heading = h("h1", { tabindex: -1 }, text);
    put(place, h("div", { class: "bar" }, heading, ...more));
    document.title = `${text} · livehook`;
    if (document.activeElement === document.body || !document.activeElement?.closest(".tools")) heading.focus({ preventScroll: true });
    scrollTo(0, 0);
}

/// Does something again and again while the page is open and looked at.
async function every(wait, act, signal) {
    while (!signal.aborted) {
        await new Promise(done => setTimeout(done, wait));
        if (signal.aborted || document.hidden) continue;
        // The banner says that the connection is gone; what else goes wrong the page shows by itself.
        await act().catch(() => {});
    }
}

/// Puts the filters of a page into its address, without leaving it.
function keep(page, values) {
    const set = Object.entries(values).filter(([, value]) => value);
    history.replaceState(null, "", `#/${page}${set.length ? `?${new URLSearchParams(set)}` : ""}`);
}

function markCurrent() {
    const current = location.hash.split(/[/?]/)[1] ?? "";
    for (const link of document.querySelectorAll("nav a")) {
        if (link.dataset.page === current) link.setAttribute("aria-current", "page");
        else link.removeAttribute("aria-current");
    }
}

/// How the service is, beside its name and in the navigation.
async function pulse() {
    if (session.token_required && !session.logged_in) return;
    let stats;
    try {
        stats = await find("/stats?span=1h");
    } catch (error) {
        return sayHealth("bad", words(error));
    }
    if (!stats) return;
    const { store, handlers, quarantine } = stats;
    sayHealth(store.ready ? "ok" : "bad", t(store.ready ? "health.ready" : "health.trouble"));
    badge("dead", Object.values(handlers).reduce((sum, handler) => sum + handler.dead, 0), "bad");
    badge("quarantine", quarantine.total, "warn");
    badge("streams", stats.streams_live, "ok");
}

function sayHealth(tone, text) {
    if (health.textContent === text) return;
    health.className = tone;
    put(health, text);
}

function badge(page, n, tone) {
    const element = document.querySelector(`[data-badge="${page}"]`);
    if (!element) return;
    element.hidden = !n;
    element.className = `badge ${tone}`;
    put(element, n ? short(n) : "");
    if (n) element.title = number(n);
}

/// Takes the token once. What was to be seen is seen after it.
function askToLogIn(why) {
    leaving.abort();
    if (document.getElementById("token")) return;
    session.logged_in = false;
    put(health);
    frame();
    const token = h("input", { type: "password", name: "token", autocomplete: "current-password", required: true });
    const trouble = h("p", { class: "trouble", role: "alert" });
    const form = h("form", { class: "card login", on: { submit } },
        h("h1", {}, t("login.title")), h("p", {}, why ?? t("login.text")),
        // Whoever keeps passwords wants a name to keep them under.
        h("input", { name: "username", autocomplete: "username", value: "admin", hidden: true }),
        field(t("login.token"), token), trouble, h("button", { class: "primary" }, t("login.enter")));
    token.id = "token";
    form.querySelector("label").htmlFor = "token";
    put(main, form);
    document.title = `${t("login.title")} · livehook`;
    token.focus();

    async function submit(event) {
        event.preventDefault();
        try {
            session = await post("/session", { token: token.value });
            frame();
            pulse();
            route();
        } catch (error) {
            put(trouble, error.status === 401 ? t("login.wrong") : words(error));
            token.select();
        }
    }
}

async function logOut() {
    session = await remove("/session");
    askToLogIn(t("login.left"));
    say(t("login.left"));
}

function decode(part) {
    try {
        return decodeURIComponent(part);
    } catch {
        return part;
    }
}
