// Lists that come page by page.

import { get, query } from "./api.js";
import { h, put } from "./dom.js";
import { count, t } from "./language.js";
import { button, empty, fail, row, table } from "./pieces.js";

/// Rows kept on the page while new ones come.
const ROWS_MAX = 1000;

/// A list of what a path of the API gives under `member`. `key` tells items apart; `refresh` fetches its first page again.
export class List {
    constructor({ path, filter, member, columns, caption, nothing, key, limit = 50 }) {
        Object.assign(this, { path, filter, member, columns, caption, nothing, key, limit });
        this.items = new Map();
        this.next = null;
        this.body = h("tbody");
        this.more = button(t("list.more"), () => this.fetchMore(), "quiet more");
        this.note = h("p", { class: "count", role: "status" });
        this.element = h("div", { class: "list" });
    }

    /// Fetches the first page; `signal` ends it.
    async load(signal) {
        this.signal = signal;
        try {
            const page = await this.fetch(null);
            this.items.clear();
            put(this.body);
            this.append(page);
            this.paint();
        } catch (error) {
            if (!signal.aborted) fail(this.element, error);
        }
    }

    /// Takes in what has come since at the head, and brings the rows that are shown up to date. Returns how many came.
    async refresh() {
        const page = await this.fetch(null);
        const fresh = page.rows.filter(item => !this.items.has(this.key(item)));
        // More came than fits a page: what is between is not known here, so the list begins anew.
        if (fresh.length === page.rows.length && this.items.size > 0 && page.next) {
            this.items.clear();
            put(this.body);
            this.append(page);
        } else {
            for (const item of page.rows) if (this.items.has(this.key(item))) this.update(item);
            for (const item of fresh.reverse()) this.prepend(item);
        }
        this.paint();
        return fresh.length;
    }

    /// Shows an item as it is now; nothing changes where it looks the same, so that no focus gets lost.
    update(item) {
        const key = this.key(item);
        const known = this.items.get(key);
        if (!known || known.text === JSON.stringify(item)) return;
        const element = row(this.columns, item);
        known.element.replaceWith(element);
        this.items.set(key, { element, text: JSON.stringify(item) });
    }

    /// Takes an item away.
    drop(item) {
        this.items.get(this.key(item))?.element.remove();
        this.items.delete(this.key(item));
        this.paint();
    }

    async fetch(cursor) {
        const page = await get(this.path + query({ ...this.filter, limit: this.limit, cursor }), this.signal);
        return { rows: page[this.member], next: page.next };
    }

    async fetchMore() {
        const before = this.items.size;
        this.append(await this.fetch(this.next));
        this.paint();
        [...this.items.values()][before]?.element.querySelector("a, button")?.focus();
    }

    append(page) {
        this.next = page.next;
        for (const item of page.rows) this.add(item, element => this.body.append(element));
    }

    prepend(item) {
        this.add(item, element => {
            element.classList.add("fresh");
            this.body.prepend(element);
        });
        while (this.body.rows.length > ROWS_MAX) {
            const last = this.body.lastElementChild;
            for (const [key, known] of this.items) if (known.element === last) this.items.delete(key);
            last.remove();
        }
    }

    add(item, place) {
        const key = this.key(item);
        if (this.items.has(key)) return;
        const element = row(this.columns, item);
        this.items.set(key, { element, text: JSON.stringify(item) });
        place(element);
    }

    paint() {
        const n = this.items.size;
        this.note.textContent = count(this.next ? "list.first" : "list.all", n);
        if (n === 0) return put(this.element, empty(this.nothing));
        if (!this.body.isConnected || !this.element.contains(this.body)) {
            const whole = table(this.caption, this.columns, []);
            whole.querySelector("tbody").replaceWith(this.body);
            put(this.element, whole, h("div", { class: "foot" }, this.note, this.more));
        }
        this.more.hidden = !this.next;
    }
}
