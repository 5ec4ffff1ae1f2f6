// Asks the JSON API. Nothing else here talks to the server.

const ROOT = "/api/v1";
const PATIENCE = 30_000;
/// For calls that look at all there is before they answer, however long that takes.
export const PATIENT = { patience: null };

/// What the API said no with.
export class Problem extends Error {
    constructor(status, detail) {
        super(detail);
        this.status = status;
    }
}

/// No answer came at all.
export class Offline extends Error {}

/// Tells `login` when a call was refused for want of one, `online` and `offline` when the connection comes and goes.
export const news = new EventTarget();

let skew = 0;
let online = true;

/// The time of the server, so that a wrong clock here tells no wrong ages.
export const now = () => Date.now() + skew;

export const get = async (path, signal) => JSON.parse(await getText(path, signal));
export const getText = async (path, signal) => (await send("GET", path, undefined, { signal })).text();
export const getBytes = async (path, signal) => (await send("GET", path, undefined, { signal })).arrayBuffer();
export const post = async (path, body = {}, manner = {}) => (await send("POST", path, body, manner)).json();
export const remove = async path => (await send("DELETE", path, {})).json();

/// What `get` gives, or null where the service does not know such a thing.
export async function find(path, signal) {
    try {
        return await get(path, signal);
    } catch (problem) {
        if (problem.status === 404) return null;
        throw problem;
    }
}

/// A path with names as its parts.
export const path = (...parts) => parts.map(part => `/${encodeURIComponent(part)}`).join("");

/// A query of what is set.
export function query(values) {
    const set = Object.entries(values).filter(([, value]) => value !== "" && value !== null && value !== undefined);
    return set.length ? `?${new URLSearchParams(set)}` : "";
}

async function send(method, path, body, { signal = null, patience = PATIENCE } = {}) {
    const ends = [signal, patience && AbortSignal.timeout(patience)].filter(Boolean);
    const request = {
        method,
        headers: body === undefined ? {} : { "Content-Type": "application/json" },
        body: body === undefined ? undefined : JSON.stringify(body),
        credentials: "same-origin",
        redirect: "error",
        signal: AbortSignal.any(ends),
    };
    let response;
    try {
        response = await fetch(ROOT + path, request);
    } catch (error) {
        if (signal?.aborted) throw error;
        tell(false);
        throw new Offline(error.message);
    }
    tell(true);
    const date = Date.parse(response.headers.get("Date") ?? "");
    // The header is cut to seconds: on the average half of one has passed.
    if (Number.isFinite(date) && Math.abs(date + 500 - now()) > 2000) skew = date + 500 - Date.now();
    if (response.ok) return response;
    const problem = new Problem(response.status, await detail(response));
    if (response.status === 401 && path !== "/session") news.dispatchEvent(new Event("login"));
    throw problem;
}

async function detail(response) {
    try {
        return (await response.json()).detail;
    } catch {
        return `${response.status} ${response.statusText}`;
    }
}

function tell(reached) {
    if (reached !== online) news.dispatchEvent(new Event(reached ? "online" : "offline"));
    online = reached;
}
