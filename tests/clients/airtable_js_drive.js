// Drives the sandbox with airtable.js as it comes from npm.
//
//     NODE_PATH=…/node_modules node airtable_js_drive.js URL OWNER_TOKEN READER_TOKEN NETWORK_BASE PLAYGROUND_BASE
//
// One line `ok NAME` for each part that held; the first that does not hold ends the program with a trace. The
// client knows neither schema nor webhooks; both are called here through its own `makeRequest`.
"use strict";
const assert = require("node:assert/strict");
const Airtable = require("airtable");

const [URL_, OWNER, READER, NETWORK, PLAYGROUND] = process.argv.slice(2);
const client = new Airtable({ apiKey: OWNER, endpointUrl: URL_ });
const members = client.base(NETWORK)("Membres");
const playground = client.base(PLAYGROUND);
const [others, types] = [playground("Autres"), playground("Types")];

// A call to the control API, which is not Airtable's.
const control = async (method, path, body) => {
  const reply = await fetch(`${URL_}/sandbox/${path}`, { method, body: body && JSON.stringify(body) });
  assert.equal(reply.status, 200, await reply.clone().text());
  return reply.json();
};
const count = async (kind) => (await control("GET", "stats")).by_kind[kind] ?? 0;
const refused = async (call) => {
  const error = await Promise.resolve(call()).then(
    (answer) => assert.fail(`was not refused: ${JSON.stringify(answer)}`),
    (error) => error,
  );
  assert.ok(!(error instanceof assert.AssertionError), error);
  return [error.statusCode, error.error, error.message];
};
const names = (records) => records.map((record) => record.get("Nom"));

const parts = {
  async list_pages() {
    const before = await count("list");
    const records = await members.select().all();
    assert.equal(records.length, 320);
    assert.equal((await count("list")) - before, 4);
    const ids = records.map((record) => record.id);
    assert.deepEqual(ids, [...ids].sort((a, b) => (a < b ? -1 : 1)));
    const sizes = [];
    await members.select({ pageSize: 10, maxRecords: 25 }).eachPage((page, next) => { sizes.push(page.length); next(); });
    assert.deepEqual(sizes, [10, 10, 5]);
  },

  async list_sorted_filtered_cut_and_seen_through_a_view() {
    const rows = await members.select({ sort: [{ field: "Nom complet", direction: "desc" }], fields: ["Nom complet"], filterByFormula: "{Statut} = 'Actif'" }).all();
    assert.ok(rows.length > 0 && rows.length < 320);
    const shown = rows.map((row) => row.get("Nom complet").toLowerCase());
    assert.deepEqual(shown, [...shown].sort((a, b) => (a > b ? -1 : a < b ? 1 : 0)));
    for (const row of rows) assert.deepEqual(Object.keys(row.fields), ["Nom complet"]);
    const seen = await members.select({ view: "Grid view", maxRecords: 3 }).firstPage();
    assert.deepEqual(seen.map((row) => row.get("N°")), [1, 2, 3]);
    const byId = await members.select({ returnFieldsByFieldId: true, maxRecords: 1 }).firstPage();
    assert.ok(Object.keys(byId[0].fields).every((key) => key.startsWith("fld")));
    const counted = await members.select({ recordMetadata: ["commentCount"], maxRecords: 1 }).firstPage();
    assert.equal(counted[0].commentCount, 0);
  },

  // By POST the client leaves `method`, `timeZone` and `userLocale` in the body beside putting the last two into the query.
  async list_by_post_is_the_same() {
    const [row] = await types.create([{ fields: { singleLineText: "texte", checkbox: true, dateTime: "2024-01-31T22:30:00.000Z" } }]);
    const asked = { cellFormat: "string", timeZone: "Europe/Paris", userLocale: "fr" };
    const texts = [];
    for (const more of [{}, { method: "post" }, { filterByFormula: `OR(RECORD_ID()='${row.id}', {singleLineText}='${"x".repeat(15_000)}')` }]) {
      const rows = await types.select({ ...asked, ...more }).all();
      texts.push(rows.find((found) => found.id === row.id).fields);
    }
    assert.equal(texts[0].checkbox, "checked");
    assert.match(texts[0].dateTime, /23:30/);
    assert.deepEqual(texts[1], texts[0]);
    assert.deepEqual(texts[2], texts[0]);
    await types.destroy(row.id);
  },

  async get_one() {
    const [first] = await members.select({ maxRecords: 1 }).firstPage();
    const found = await members.find(first.id);
    assert.deepEqual(found.fields, first.fields);
  },

  async create_one_ten_and_many() {
    const before = await count("create");
    const one = await others.create({ Nom: "seul", Nombre: 0 });
    assert.deepEqual(one.fields, { Nom: "seul", Nombre: 0 });
    const ten = await others.create(Array.from({ length: 10 }, (_, n) => ({ fields: { Nom: `dix ${n}` } })));
    assert.deepEqual(names(ten), Array.from({ length: 10 }, (_, n) => `dix ${n}`));
    assert.equal((await count("create")) - before, 2);
    // The client does not cut; eleven are refused.
    const eleven = await refused(() => others.create(Array.from({ length: 11 }, () => ({ fields: {} }))));
    assert.deepEqual(eleven, [422, "INVALID_RECORDS", "A maximum of 10 records can be created per request but you have provided 11."]);
    const gone = await others.destroy([...ten.map((record) => record.id)]);
    assert.deepEqual(gone.map((record) => record.id), ten.map((record) => record.id));
    assert.equal((await one.destroy()).id, one.id);
    assert.deepEqual(await refused(() => others.find(one.id)), [404, "NOT_FOUND", "Record not found"]);
  },

  async update_patch_put_one_and_many() {
    const rows = await others.create([{ fields: { Nom: "a", Nombre: 1 } }, { fields: { Nom: "b", Nombre: 2 } }]);
    assert.deepEqual((await others.update(rows[0].id, { Nom: "c" })).fields, { Nom: "c", Nombre: 1 });
    assert.deepEqual((await others.replace(rows[0].id, { Nom: "d" })).fields, { Nom: "d" });
    const patched = await others.update(rows.map((row) => ({ id: row.id, fields: { Nombre: 7 } })));
    assert.deepEqual(patched.map((row) => row.fields), [{ Nom: "d", Nombre: 7 }, { Nom: "b", Nombre: 7 }]);
    const replaced = await others.replace(rows.map((row) => ({ id: row.id, fields: { Nombre: 8 } })));
    assert.deepEqual(replaced.map((row) => row.fields), [{ Nombre: 8 }, { Nombre: 8 }]);
    assert.deepEqual((await rows[0].patchUpdate({ Nombre: null })).fields, {});
    await others.destroy(rows.map((row) => row.id));
  },

  async upsert() {
    const known = await others.create({ Nom: "clé", Nombre: 1 });
    const asked = { performUpsert: { fieldsToMergeOn: ["Nom"] } };
    const rows = await others.update([{ fields: { Nom: "clé", Nombre: 2 } }, { fields: { Nom: "autre clé" } }], asked);
    assert.equal(rows[0].id, known.id);
    assert.deepEqual(rows.map((row) => row.fields), [{ Nom: "clé", Nombre: 2 }, { Nom: "autre clé" }]);
    const reply = await playground.makeRequest({ method: "PATCH", path: "/Autres", body: { ...asked, records: [{ fields: { Nom: "clé" } }] } });
    assert.deepEqual([reply.body.createdRecords, reply.body.updatedRecords], [[], [known.id]]);
    await others.destroy(rows.map((row) => row.id));
  },

  async typecast() {
    const [status, type] = await refused(() => types.create({ singleSelect: "Inédit" }));
    assert.deepEqual([status, type], [422, "INVALID_MULTIPLE_CHOICE_OPTIONS"]);
    const made = await types.create({ singleSelect: "Inédit", number: "3.5" }, { typecast: true });
    assert.deepEqual([made.get("singleSelect"), made.get("number")], ["Inédit", 3.5]);
    await made.destroy();
  },

  async errors_tell_status_and_type() {
    assert.deepEqual(await refused(() => others.find("rec00000000000000")), [404, "NOT_FOUND", "Record not found"]);
    assert.deepEqual(await refused(() => others.create({ Inconnu: 1 })), [422, "UNKNOWN_FIELD_NAME", 'Unknown field name: "Inconnu"']);
    assert.equal((await refused(() => playground("Nulle part").select().all()))[0], 403);
    const stranger = new Airtable({ apiKey: "patWrong.0", endpointUrl: URL_ }).base(PLAYGROUND)("Autres");
    assert.deepEqual((await refused(() => stranger.select().all())).slice(0, 2), [401, "AUTHENTICATION_REQUIRED"]);
    const reader = new Airtable({ apiKey: READER, endpointUrl: URL_ }).base(PLAYGROUND)("Autres");
    assert.deepEqual((await refused(() => reader.create({}))).slice(0, 2), [403, "NOT_AUTHORIZED"]);
    for (const [kind, status, type] of [["error500", 500, "SERVER_ERROR"], ["error503", 503, "SERVICE_UNAVAILABLE"]]) {
      await control("POST", "faults", { kind, request: "list" });
      assert.deepEqual((await refused(() => others.select().all())).slice(0, 2), [status, type]);
    }
  },

  async rate_limit_refused_calls_are_tried_again_by_the_client() {
    // Its wait is a random part of 5 s, 10 s, …; the test draws small parts.
    const random = Math.random;
    Math.random = () => 0.01;
    try {
      await control("POST", "faults", { kind: "rate_limit", request: "create", count: 2 });
      const before = await count("create");
      const row = await others.create({ Nom: "troisième essai" });
      assert.equal((await count("create")) - before, 3);
      await row.destroy();
    } finally {
      Math.random = random;
    }
    await control("POST", "faults", { kind: "rate_limit", request: "create" });
    const hasty = new Airtable({ apiKey: OWNER, endpointUrl: URL_, noRetryIfRateLimited: true }).base(PLAYGROUND)("Autres");
    assert.deepEqual((await refused(() => hasty.create({}))).slice(0, 2), [429, "TOO_MANY_REQUESTS"]);
  },

  async schema_and_webhooks_through_the_clients_own_request() {
    // The client has no call for these, but its base object makes any request below `/v0/…`.
    const meta = client.base("meta/bases");
    const schema = (await meta.makeRequest({ path: `/${PLAYGROUND}/tables` })).body;
    const table = schema.tables.find((known) => known.name === "Autres");
    const hooks = client.base(`bases/${PLAYGROUND}/webhooks`);
    const specification = { options: { filters: { dataTypes: ["tableData"], recordChangeScope: table.id } } };
    const hook = (await hooks.makeRequest({ method: "POST", path: "", body: { specification } })).body;
    assert.match(hook.id, /^ach/);
    const rows = await others.create([{ fields: { Nom: "un" } }, { fields: { Nom: "deux" } }]);
    await others.destroy(rows.map((row) => row.id));
    const page = (await hooks.makeRequest({ path: `/${hook.id}/payloads`, qs: { cursor: 1, limit: 1 } })).body;
    assert.deepEqual([page.cursor, page.mightHaveMore, page.payloads.length], [2, true, 1]);
    assert.deepEqual(Object.keys(page.payloads[0].changedTablesById[table.id].createdRecordsById).sort(), rows.map((row) => row.id).sort());
    const rest = (await hooks.makeRequest({ path: `/${hook.id}/payloads`, qs: { cursor: page.cursor } })).body;
    assert.deepEqual([rest.cursor, rest.mightHaveMore], [3, false]);
    assert.deepEqual([...rest.payloads[0].changedTablesById[table.id].destroyedRecordIds].sort(), rows.map((row) => row.id).sort());
    const fresh = (await hooks.makeRequest({ method: "POST", path: `/${hook.id}/refresh` })).body;
    assert.ok(fresh.expirationTime >= hook.expirationTime);
    const known = (await hooks.makeRequest({ path: "" })).body.webhooks;
    assert.equal(known.find((one) => one.id === hook.id).cursorForNextPayload, 3);
    assert.deepEqual((await hooks.makeRequest({ method: "DELETE", path: `/${hook.id}` })).body, {});
    assert.equal((await refused(() => hooks.makeRequest({ path: `/${hook.id}/payloads` })))[0], 404);
  },
};

(async () => {
  for (const [name, check] of Object.entries(parts)) {
    await check();
    console.log("ok", name);
  }
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
