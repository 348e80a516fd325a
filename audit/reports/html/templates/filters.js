"use strict";
for (const form of document.querySelectorAll("form.filters")) {
  const items = [...form.parentElement.querySelectorAll(".item")];
  const output = form.querySelector("output");
  let texts = null;
  const show = () => {
    texts ??= items.map((item) => item.textContent.toLowerCase());
    const change = form.elements.change.value;
    const mentions = form.elements.mentions.checked;
    const wanted = form.elements.search.value.trim().toLowerCase();
    let count = 0;
    items.forEach((item, place) => {
      const fits = (!change || item.dataset.change === change)
        && (!mentions || item.dataset.mentions === "yes")
        && (!wanted || texts[place].includes(wanted));
      item.hidden = !fits;
      count += fits;
    });
    output.value = `${count} of ${items.length} shown`;
  };
  form.hidden = false;
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
}
const openTarget = () => {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target && target.matches("details")) target.open = true;
};
addEventListener("hashchange", openTarget);
openTarget();
addEventListener("beforeprint", () => {
  for (const ability of document.querySelectorAll("details.ability")) ability.open = true;
});
