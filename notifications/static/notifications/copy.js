"use strict";
// Buttons that copy. What they copy is written as in an address, so that hidden characters stay what they are.
{
    // Over plain http a browser has no clipboard for pages, but for what is selected.
    function selected(text) {
        const field = document.createElement("textarea");
        field.value = text;
        field.className = "visually-hidden";
        document.body.append(field);
        field.select();
        const done = document.execCommand("copy");
        field.remove();
        return done;
    }

    async function copied(text) {
        try {
            await navigator.clipboard.writeText(text);
            return true;
        } catch {
            return selected(text);
        }
    }

    document.addEventListener("click", async (event) => {
        const button = event.target.closest("[data-copy]");
        if (!button) return;
        const done = await copied(decodeURIComponent(button.dataset.copy));
        const what = button.textContent.trim().replace(/^Copy /, "");
        const said = button.parentElement.querySelector("[data-copied]");
        if (said) said.textContent = done ? `The ${what} is copied.` : `The browser does not let the ${what} be copied.`;
        button.focus();
    });
}
