"use strict";
for (const form of document.querySelectorAll("form.filters")) {
  const items = [...form.parentElement.querySelectorAll(".item")];
  const list = items[0].parentElement;
  const output = form.querySelector("output");
  const fields = [...form.querySelectorAll("select, input")];
  let texts = null;
  const fits = (item, place) => fields.every(({ name, type, value, checked }) => {
    if (name === "sort" || (type === "checkbox" ? !checked : !value.trim())) return true;
    if (type === "search") return texts[place].includes(value.trim().toLowerCase());
    return item.dataset[name] === (type === "checkbox" ? "yes" : value);
  });
  const show = () => {
    texts ??= items.map((item) => item.textContent.toLowerCase());
    let count = 0;
    items.forEach((item, place) => {
      item.hidden = !fits(item, place);
      count += !item.hidden;
    });
    output.value = `${count} of ${items.length} shown`;
  };
  const sort = () => {
    const [, sign, key] = /^(-?)(.*)$/.exec(form.elements.sort.value);
    const weight = (item) => (key in item.dataset ? Number(sign + 1) * item.dataset[key] : Infinity);
    list.append(...(key ? [...items].sort((one, other) => weight(one) - weight(other) || 0) : items));
  };
  form.hidden = false;
  form.addEventListener("input", show);
  form.elements.sort?.addEventListener("input", sort);
  form.addEventListener("submit", (event) => event.preventDefault());
}
for (const figure of document.querySelectorAll("figure.plot")) {
  for (const box of figure.querySelectorAll("input[data-line]")) {
    const line = figure.querySelector(`g[data-line="${box.dataset.line}"]`);
    const show = () => line.toggleAttribute("hidden", !box.checked);
    box.hidden = false;
    box.addEventListener("input", show);
    box.parentElement.addEventListener("mouseenter", () => line.classList.add("strong"));
    box.parentElement.addEventListener("mouseleave", () => line.classList.remove("strong"));
    show(); // browsers keep the boxes of a page that is loaded again
  }
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
