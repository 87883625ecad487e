"use strict";
// The list of notifications: row selection by delegation, so that it outlives the list's replacement
// every 30 seconds; that replacement, which waits while somebody is in the middle of something; and
// the keys. Last, what drives an operation on its progress page.
{
    const list = document.getElementById("nf-list");

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

    let refreshed = new Date();
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
        const at = refreshed.toLocaleTimeString();
        const text = trouble || (why ? `Paused while ${why}` : `Updated ${at}`);
        const status = document.getElementById("nf-refreshed");
        if (status.textContent !== text) status.textContent = text;
    }

    function replace(html) {
        const fresh = new DOMParser().parseFromString(html, "text/html");
        const parts = [...fresh.querySelectorAll("[data-live]")];
        if (!parts.length) throw new Error("not a list");
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
            const selector = `#nf-list [${name}="${CSS.escape(value ?? "")}"], #nf-tabs [${name}="${CSS.escape(value ?? "")}"]`;
            const twin = value && document.querySelector(selector);
            if (twin) return twin.focus({ preventScroll: true });
        }
    }

    async function refresh() {
        if (!paused()) {
            try {
                const response = await fetch(window.location.href, {
                    headers: { "X-Notifications-Refresh": "1" },
                    cache: "no-store",
                    redirect: "manual",
                });
                if (!response.ok) throw new Error(response.statusText);
                const html = await response.text();
                // Somebody may have begun to select while the answer was on its way.
                if (!paused()) replace(html);
                refreshed = new Date();
                trouble = "";
            } catch {
                trouble = `Not updated since ${refreshed.toLocaleTimeString()}: no answer, or signed out`;
            }
        }
        announce();
    }

    // Keys

    const rows = () => [...list.querySelectorAll("#result_list tbody tr")];
    const link = (row) => row?.querySelector("th a, td.field-kind a");
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
        "/": () => document.getElementById("searchbar").focus(),
        "?": () => document.getElementById("nf-keys").showModal(),
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
            if (event.key === "Escape" || (event.type === "click" && !open.contains(event.target))) open.open = false;
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
    const operation = document.getElementById("nf-operation");
    const form = document.getElementById("nf-drive");
    const address = operation?.dataset.drive;

    function show(state) {
        const bar = document.getElementById("nf-progress");
        bar.max = state.requested;
        bar.value = state.ended ? state.requested : state.done;
        document.getElementById("nf-told").textContent = state.told;
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
            if (!response.ok) throw new Error(response.status || "signed out");
            const state = await response.json();
            show(state);
            if (state.ended) return window.location.replace(address);
        }
    }

    function halt(error) {
        const trouble = document.getElementById("nf-trouble");
        trouble.textContent = `It stopped (${error.message}). Nothing is lost: Continue goes on where it is.`;
        trouble.hidden = false;
    }

    if (address) drive().catch(halt);
}
