"use strict";
// What refreshes itself every 30 seconds, the list of notifications and the dashboard: row selection by
// delegation, so that it outlives the list's replacement; that replacement, which waits while somebody is
// in the middle of something; and the keys. Then what counts all that match on the page that asks first,
// and what drives an operation on its progress page.
{
    const list = document.querySelector("[data-refresh-seconds]");

    const boxes = () => [...list.querySelectorAll("input.action-select")];
    const across = () => list.querySelector("input.select-across");
    const shown = (selector, yes) => list.querySelector(selector)?.classList.toggle("hidden", !yes);

    // Selection

    let last = null;

    function tally() {
        const all = boxes();
        const toggle = document.getElementById("action-toggle");
        if (!toggle || !all.length) return;
        const chosen = all.filter((box) => box.checked).length;
        const full = chosen === all.length;
        if (!full) across().value = 0;
        const everything = across().value === "1";
        toggle.checked = full;
        toggle.indeterminate = chosen > 0 && !full;
        for (const box of all) box.closest("tr").classList.toggle("selected", box.checked);
        list.querySelector(".action-counter").textContent = `${chosen} of ${all.length} selected`;
        shown(".action-counter", !everything);
        shown(".actions .all", everything);
        shown(".actions .clear", everything);
        shown(".actions .question", full && !everything);
        announce();
    }

    function choose(checked) {
        for (const box of boxes()) box.checked = checked;
        tally();
    }

    function onClick(event) {
        const { target } = event;
        if (target.id === "action-toggle") {
            choose(target.checked);
        } else if (target.matches("input.action-select")) {
            if (event.shiftKey && last?.isConnected) fill(last, target);
            last = target;
            tally();
        } else if (target.closest(".actions .question a")) {
            event.preventDefault();
            across().value = 1;
            tally();
        } else if (target.closest(".actions .clear a")) {
            event.preventDefault();
            choose(false);
        }
    }

    function fill(from, to) {
        const all = boxes();
        const ends = [all.indexOf(from), all.indexOf(to)].sort((a, b) => a - b);
        for (const box of all.slice(ends[0], ends[1] + 1)) box.checked = to.checked;
    }

    // Refresh

    const clock = () =>
        new Date().toLocaleTimeString([], {
            hour: "2-digit",
            minute: "2-digit",
            second: "2-digit",
            hourCycle: "h23",
            timeZoneName: "short",
        });
    const PATIENCE = 20_000;
    let refreshed = clock();
    let trouble = "";

    function paused() {
        if (document.hidden) return "the tab is hidden";
        if (boxes().some((box) => box.checked)) return "rows are selected";
        if (list.querySelector("select[name=action]")?.value) return "an action is chosen";
        if (document.activeElement?.id === "searchbar") return "you are searching";
        if (document.querySelector("dialog[open], .nf-more[open]")) return "you are reading";
        return "";
    }

    function announce() {
        const why = paused();
        const text = trouble || (why ? `Paused while ${why}` : `Updated ${refreshed}`);
        const status = document.getElementById("nf-refreshed");
        if (status && status.textContent !== text) status.textContent = text;
    }

    function replace(html) {
        const fresh = new DOMParser().parseFromString(html, "text/html");
        const parts = [...fresh.querySelectorAll("[data-live]")];
        if (!parts.length) throw new Error("another page");
        const held = document.activeElement;
        const place = here();
        for (const part of parts) {
            document.getElementById(part.dataset.live).replaceChildren(...part.childNodes);
        }
        if (held && !held.isConnected) restoreFocus(held);
        mark(place);
        tally();
    }

    // The same link or button as before, where the fresh list still has it.
    function restoreFocus(held) {
        for (const name of ["formaction", "href", "name"]) {
            const value = held.getAttribute(name);
            const twin = value && document.querySelector(`main [${name}="${CSS.escape(value)}"]`);
            if (twin) return twin.focus({ preventScroll: true });
        }
    }

    let asking = false;

    // One at a time, and none for ever: a slow database is not asked again while it has yet to answer.
    async function refresh() {
        if (!paused() && !asking) {
            asking = true;
            try {
                const response = await fetch(window.location.href, {
                    signal: AbortSignal.timeout(PATIENCE),
                    headers: { "X-Notifications-Refresh": "1" },
                    cache: "no-store",
                    redirect: "manual",
                });
                if (!response.ok) throw new Error(response.statusText);
                const html = await response.text();
                // Somebody may have begun to select while the answer was on its way.
                if (!paused()) replace(html);
                refreshed = clock();
                trouble = "";
            } catch {
                trouble = `Not updated since ${refreshed}: no answer, or signed out`;
            } finally {
                asking = false;
            }
        }
        announce();
    }

    // Keys

    const rows = () => [...list.querySelectorAll("#result_list tbody tr")];
    const link = (row) => row?.querySelector(".field-subject a");
    const current = () => list.querySelector("tr.nf-current");
    const here = () => link(current())?.getAttribute("href");
    const open = () => document.querySelector("dialog[open]");

    function mark(href) {
        const row = href && rows().find((row) => link(row)?.getAttribute("href") === href);
        row?.classList.add("nf-current");
    }

    function move(by) {
        const all = rows();
        if (!all.length) return;
        const at = all.indexOf(current());
        const next = all[at < 0 ? 0 : Math.max(0, Math.min(all.length - 1, at + by))];
        current()?.classList.remove("nf-current");
        next.classList.add("nf-current");
        link(next)?.focus({ preventScroll: true });
        next.scrollIntoView({ block: "nearest" });
    }

    function toggle() {
        current()?.querySelector("input.action-select")?.click();
    }

    // The page that asks first is the server's.
    function requeue() {
        const action = list.querySelector("select[name=action]");
        if (!action?.querySelector("option[value=requeue_selected]")) return;
        if (!boxes().some((box) => box.checked)) toggle();
        if (!boxes().some((box) => box.checked)) return;
        action.value = "requeue_selected";
        list.querySelector("button[name=index]").click();
    }

    const keys = {
        "/": () => document.getElementById("searchbar")?.focus(),
        "?": () => document.getElementById("nf-keys")?.showModal(),
        j: () => move(1),
        k: () => move(-1),
        x: toggle,
        r: requeue,
    };

    function onKey(event) {
        closeFilters(event);
        if (event.ctrlKey || event.metaKey || event.altKey || open()) return;
        if (event.target.matches("input:not([type=checkbox]), select, textarea")) return;
        if (!Object.hasOwn(keys, event.key)) return;
        event.preventDefault();
        keys[event.key]();
    }

    function closeFilters(event) {
        for (const open of document.querySelectorAll(".nf-filter[open]")) {
            if (event.key !== "Escape" && (event.type !== "click" || open.contains(event.target))) continue;
            if (event.key === "Escape" && open.contains(document.activeElement)) open.querySelector("summary").focus();
            open.open = false;
        }
    }

    if (list) {
        document.addEventListener("click", closeFilters);
        document.addEventListener("keydown", onKey);
        list.addEventListener("click", onClick);
        list.addEventListener("change", announce);
        document.addEventListener("focusin", announce);
        document.addEventListener("focusout", () => setTimeout(announce));
        window.addEventListener("pageshow", tally);
        // Coming back to the tab should not mean looking at an old list for half a minute.
        document.addEventListener("visibilitychange", () => document.hidden || refresh());
        setInterval(refresh, Number(list.dataset.refreshSeconds) * 1000);
        tally();
        announce();
    }
}

{
    const survey = document.getElementById("nf-survey");
    const found = { count: 0, channels: new Map(), groups: new Map(), oldest: "", arrived: 0, old: 0 };

    function add(map, key, kind, count) {
        const entry = map.get(key) ?? { kind, count: 0 };
        entry.count += count;
        map.set(key, entry);
    }

    function gather(answer) {
        found.count += answer.count;
        found.arrived += answer.arrived;
        found.old += answer.old;
        found.oldest = [found.oldest, answer.oldest].filter(Boolean).sort()[0] ?? "";
        for (const [channel, count] of answer.channels) add(found.channels, channel.toLowerCase(), [channel], count);
        for (const [channel, error, count, parts] of answer.groups) {
            add(found.groups, JSON.stringify([channel.toLowerCase(), error]), [channel, error, parts], count);
        }
    }

    const many = (number) => number.toLocaleString("en-US");
    const greatest = (map) => [...map.values()].sort((one, other) => other.count - one.count);

    function element(name, text, attributes = {}) {
        const made = document.createElement(name);
        made.textContent = text;
        for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
        return made;
    }

    function row(count, ...cells) {
        const made = document.createElement("tr");
        made.append(element("td", many(count), { class: "nf-number" }), ...cells);
        return made;
    }

    function groupRows() {
        const groups = greatest(found.groups);
        const shown = groups.slice(0, Number(survey.dataset.groupsShown));
        const made = shown.map(({ kind: [channel, error, parts], count }) => {
            const cell = document.createElement("td");
            const said = element("span", "", { class: "nf-error", title: error });
            said.append(...parts.flatMap(([text, changes]) => [changes ? element("i", text) : text, " "]));
            cell.append(said);
            return row(count, element("td", channel), cell);
        });
        const others = found.count - shown.reduce((sum, group) => sum + group.count, 0);
        return others ? [...made, row(others, element("td", "with other errors", { colspan: 2 }))] : made;
    }

    function tell(more) {
        const channels = greatest(found.channels).map(({ kind: [channel], count }) => {
            const made = element("li", ` ${channel}`);
            made.prepend(element("b", many(count)));
            return made;
        });
        survey.querySelector(".nf-channels").replaceChildren(...channels);
        survey.querySelector("tbody").replaceChildren(...groupRows());
        document.getElementById("nf-oldest").textContent = found.oldest;
        for (const name of ["arrived", "old"]) {
            const place = document.getElementById(`nf-${name}`);
            if (!place) continue;
            place.hidden = !found[name];
            place.querySelector("b").textContent = many(found[name]);
        }
        const so = more ? `Counting: ${many(found.count)} so far.` : `All ${many(found.count)} that match are counted.`;
        document.getElementById("nf-counted").textContent = so;
    }

    // A batch after the other, each as quick as a page; leaving the page ends it.
    async function count() {
        const form = document.getElementById("nf-ask");
        for (let place = ""; place !== null; ) {
            const body = new FormData(form);
            body.set("count", place);
            const response = await fetch(form.getAttribute("action"), { method: "POST", redirect: "manual", body });
            if (!response.ok) throw new Error(response.statusText);
            const answer = await response.json();
            gather(answer);
            place = answer.after;
            tell(place !== null);
        }
    }

    function stopped() {
        const so = found.count ? `this is of the newest ${many(found.count)}` : "this is of the newest only";
        document.getElementById("nf-counted").textContent = `Counting stopped, without an answer: ${so}.`;
    }

    if (survey && "count" in survey.dataset) count().catch(stopped);
}

{
    const operation = document.getElementById("nf-operation");
    const form = document.getElementById("nf-drive");
    const address = operation?.dataset.drive;

    function show(state) {
        const bar = document.getElementById("nf-progress");
        bar.max = state.most;
        bar.value = state.done;
        document.getElementById("nf-report").textContent = state.report;
    }

    // One short step after the other, so that closing the page stops it between two of them.
    async function drive() {
        const body = new FormData(form);
        body.delete("stop");
        for (;;) {
            const response = await fetch(address, {
                method: "POST",
                headers: { Accept: "application/json" },
                redirect: "manual",
                body,
            });
            if (response.status === 409) return halt((await response.json()).error);
            if (!response.ok) throw new Error(response.statusText);
            const state = await response.json();
            show(state);
            if (state.ended) return window.location.replace(address);
        }
    }

    function halt(why) {
        const trouble = document.getElementById("nf-trouble");
        trouble.textContent = why;
        trouble.hidden = false;
    }

    const unanswered = "It stopped: no answer, or signed out. Nothing is lost: Continue goes on where it is.";
    if (address) drive().catch(() => halt(unanswered));
}
