// Lists that come page by page.

import { get, query } from "./api.js";
import { h, put } from "./dom.js";
import { count, t } from "./language.js";
import { button, empty, fail, row, table } from "./pieces.js";

/// Rows the API gives at once.
const PAGE_MAX = 1000;
/// Pages looked through for a first row: one may be short or empty and not the last.
const PAGES_MAX = 10;

/// A list of what a path of the API gives under `member`. `key` tells items apart; `refresh` fetches again what is shown.
export class List {
    constructor({ path, filter, member, columns, caption, nothing, key, limit = 50 }) {
        Object.assign(this, { path, filter, member, columns, caption, nothing, key, limit });
        this.items = new Map();
        this.next = null;
        /// Counts what was asked for: only the latest answer is shown.
        this.turn = 0;
        /// Pages that what is shown came from.
        this.pages = 1;
        /// Whether somebody waits for an answer, so that nothing may be asked in between.
        this.awaited = false;
        this.body = h("tbody");
        this.more = button(t("list.more"), () => this.fetchMore(), "quiet more");
        this.note = h("p", { class: "count", role: "status" });
        this.element = h("div", { class: "list" });
    }

    /// Fetches the first page as the filter is now; `signal` ends it.
    async load(signal) {
        this.signal = signal;
        try {
            const page = await this.ask({ awaited: true, rows: this.limit });
            if (!page) return;
            this.pages = page.asked;
            this.replace(page);
        } catch (error) {
            if (!signal.aborted) fail(this.element, error);
        }
    }

    /// Brings what is shown up to date: what has come, what has changed and what is gone. Returns how many came.
    async refresh() {
        if (this.awaited) return 0;
        const shown = this.items.size;
        const page = await this.ask({ awaited: false, rows: Math.max(this.limit, shown), enough: shown, pages: this.pages });
        return page ? this.replace(page, "fresh") : 0;
    }

    /// Takes an item away.
    drop(item) {
        // What was asked before may still hold it.
        if (!this.awaited) this.turn++;
        this.items.get(this.key(item))?.element.remove();
        this.items.delete(this.key(item));
        this.paint();
    }

    async fetchMore() {
        if (this.awaited) return;
        const before = this.items.size;
        const page = await this.ask({ awaited: true, rows: this.limit, cursor: this.next });
        if (!page) return;
        this.pages += page.asked;
        this.append(page);
        [...this.items.values()][before]?.element.querySelector("a, button")?.focus();
    }

    /// Fetches so many rows from a cursor on, or as many as stand in so many pages once there are `enough`. None where
    /// something else was asked meanwhile.
    async ask({ awaited, rows, enough = 1, pages = PAGES_MAX, cursor = null }) {
        const turn = ++this.turn;
        this.awaited = awaited;
        const page = { rows: [], next: cursor, asked: 0 };
        try {
            do {
                const limit = Math.min(rows - page.rows.length, PAGE_MAX);
                const answer = await get(this.path + query({ ...this.filter, limit, cursor: page.next }), this.signal);
                if (turn !== this.turn) return null;
                page.rows.push(...answer[this.member]);
                page.next = answer.next;
                page.asked++;
            } while (page.next && page.rows.length < enough && page.asked < pages);
            return page;
        } catch (error) {
            if (turn !== this.turn) return null;
            throw error;
        } finally {
            if (turn === this.turn) this.awaited = false;
        }
    }

    /// Shows these rows and no others. What looks the same stays where it is, so that no focus gets lost.
    replace(page, mark = "") {
        const known = this.items;
        this.items = new Map();
        this.next = page.next;
        let came = 0;
        for (const item of page.rows) {
            const key = this.key(item);
            if (this.items.has(key)) continue;
            const text = JSON.stringify(item);
            const same = known.get(key)?.text === text;
            const element = same ? known.get(key).element : row(this.columns, item);
            if (!known.has(key)) {
                came++;
                if (mark) element.classList.add(mark);
            }
            this.items.set(key, { element, text });
        }
        this.arrange();
        this.paint();
        return came;
    }

    append(page) {
        this.next = page.next;
        for (const item of page.rows) {
            const key = this.key(item);
            if (!this.items.has(key)) this.items.set(key, { element: row(this.columns, item), text: JSON.stringify(item) });
        }
        this.arrange();
        this.paint();
    }

    /// Puts the rows into their order, and moves none that need not move.
    arrange() {
        const wanted = [...this.items.values()].map(({ element }) => element);
        const stay = new Set(wanted);
        for (const element of [...this.body.rows]) if (!stay.has(element)) element.remove();
        let place = this.body.firstElementChild;
        for (const element of wanted) {
            if (element === place) place = place.nextElementSibling;
            else this.body.insertBefore(element, place);
        }
    }

    paint() {
        const n = this.items.size;
        this.note.textContent = count(this.next ? "list.first" : "list.all", n);
        if (n === 0 && !this.next) return put(this.element, empty(this.nothing));
        if (!this.body.isConnected || !this.element.contains(this.body)) {
            const whole = table(this.caption, this.columns, []);
            whole.querySelector("tbody").replaceWith(this.body);
            put(this.element, whole, h("div", { class: "foot" }, this.note, this.more));
        }
        this.more.hidden = !this.next;
    }
}
