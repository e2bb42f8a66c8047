"use strict";
const words = {
  fr: { title: "Bac à sable Airtable", add: "Ajouter une ligne", other: "English", saved: "Enregistré", remove: "Supprimer", sure: "Supprimer cette ligne ?" },
  en: { title: "Airtable sandbox", add: "Add a row", other: "Français", saved: "Saved", remove: "Delete", sure: "Delete this row?" },
};
let lang = document.documentElement.lang, version = -1, grid = null, busy = false;
const $ = (id) => document.getElementById(id), t = (key) => words[lang][key];
const ask = async (path, body) => {
  const reply = await fetch("/sandbox" + path, body ? { method: "POST", body: JSON.stringify(body) } : {});
  const json = await reply.json();
  if (!reply.ok) throw new Error(json.error.message || json.error.type);
  return json;
};
const label = () => { $("title").textContent = t("title"); $("add").textContent = t("add"); $("language").textContent = t("other"); document.documentElement.lang = lang; };
const options = (select, items) => { select.replaceChildren(...items.map(([value, text]) => new Option(text, value))); };
const say = (text) => { $("status").textContent = text; };
const edit = async (change) => {
  try {
    await ask("/edit", { base: $("base").value, as: { source: "client", user: $("person").value }, edits: [{ table: $("table").value, ...change }] });
    say(t("saved"));
  } catch (error) { say(error.message); }
  version = -1; await load();
};
const text = (value) => value === undefined ? "" : Array.isArray(value) ? value.map(text).join(", ") : typeof value === "object" && value ? value.name || value.text || JSON.stringify(value) : value === true ? "✓" : String(value);
const start = (cell, field, row) => {
  if (busy) return;
  const old = row.fields[field.id];
  if (field.type === "checkbox") return void edit({ do: "update", record: row.id, fields: { [field.id]: !old } });
  busy = true;
  let input;
  if (field.type === "singleSelect") { input = document.createElement("select"); options(input, [["", ""], ...field.options.choices.map((c) => [c.name, c.name])]); }
  else { input = document.createElement("input"); if (field.type === "date") input.type = "date"; }
  input.value = text(old); cell.replaceChildren(input); input.focus(); input.select?.();
  let done = false;
  const end = async (keep) => {
    if (done) return;
    done = true; busy = false;
    if (!keep || input.value === text(old)) { version = -1; return load(); }
    const numeric = ["number", "currency", "percent", "rating", "duration"].includes(field.type);
    const number = Number(input.value.replace(",", "."));
    // What is no number goes as it is, to be refused; as a number it would be null, which clears the cell.
    let value = input.value === "" ? null : numeric && !Number.isNaN(number) ? number : input.value;
    if (field.type === "multipleSelects" && value) value = value.split(",").map((part) => part.trim()).filter(Boolean);
    await edit({ do: "update", record: row.id, fields: { [field.id]: value } });
  };
  input.onblur = () => end(true);
  input.onkeydown = (event) => { if (event.key === "Enter") end(true); if (event.key === "Escape") end(false); };
};
const simple = ["singleLineText", "multilineText", "richText", "email", "url", "phoneNumber", "number", "currency", "percent", "duration", "rating", "checkbox", "date", "dateTime", "singleSelect", "multipleSelects"];
const draw = () => {
  const head = document.createElement("tr");
  head.append(...[...grid.fields.map((field) => field.name), ""].map((name) => { const th = document.createElement("th"); th.textContent = name; return th; }));
  document.querySelector("thead").replaceChildren(head);
  document.querySelector("tbody").replaceChildren(...grid.records.map((row) => {
    const line = document.createElement("tr");
    line.dataset.id = row.id;
    for (const field of grid.fields) {
      const cell = document.createElement("td"), shown = row.texts[field.id] ?? text(row.fields[field.id]);
      cell.textContent = shown; cell.title = shown; cell.dataset.field = field.name;
      if (field.editable && simple.includes(field.type)) { cell.className = "edit"; cell.onclick = (event) => { if (event.target === cell) start(cell, field, row); }; } else cell.className = "fixed";
      line.append(cell);
    }
    const last = document.createElement("td"), button = document.createElement("button");
    button.textContent = t("remove"); button.onclick = () => { if (confirm(t("sure"))) edit({ do: "delete", record: row.id }); };
    last.append(button); line.append(last);
    return line;
  }));
};
const load = async () => {
  if (busy) return;
  const state = await ask("/state");
  if (state.version === version) return;
  grid = await ask(`/grid?base=${$("base").value}&table=${$("table").value}`);
  if (!busy) { version = grid.version; draw(); }
};
const begin = async () => {
  label();
  const state = await ask("/state");
  options($("base"), state.bases.map((base) => [base.id, base.name]).reverse());
  options($("person"), state.users.map((user) => [user.id, user.name]));
  const tables = () => options($("table"), state.bases.find((base) => base.id === $("base").value).tables.map((table) => [table.id, table.name]));
  tables();
  $("base").onchange = () => { tables(); version = -1; load(); };
  $("table").onchange = () => { version = -1; load(); };
  $("add").onclick = () => edit({ do: "create" });
  $("language").onclick = () => { lang = lang === "fr" ? "en" : "fr"; label(); draw(); };
  await load();
  setInterval(() => load().catch((error) => say(error.message)), 2000);
};
begin();
