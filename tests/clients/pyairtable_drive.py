"""Drives the sandbox with pyairtable as it comes from PyPI.

    python pyairtable_drive.py URL OWNER_TOKEN READER_TOKEN NETWORK_BASE PLAYGROUND_BASE

One line `ok NAME` for each part that held; the first that does not hold ends the program with a trace.
The sandbox runs without limits; `rate_limit_*` switches them on for itself.
"""

import datetime
import http.server
import json
import os
import queue
import sys
import threading
import urllib.request

import requests
from pyairtable import Api, formulas
from pyairtable.models import WebhookNotification

URL, OWNER, READER, NETWORK, PLAYGROUND = sys.argv[1:6]
api = Api(OWNER, endpoint_url=URL)
members = api.table(NETWORK, "Membres")
others = api.table(PLAYGROUND, "Autres")
types = api.table(PLAYGROUND, "Types")
PARTS = []


def part(check):
    PARTS.append(check)
    return check


def control(method, path, body=None):
    """A call to the control API, which is not Airtable's."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{URL}/sandbox/{path}", data=data, method=method)
    with urllib.request.urlopen(request, timeout=20) as reply:
        return json.load(reply)


def count(kind):
    """Requests of a kind that reached the sandbox so far."""
    return control("GET", "stats")["by_kind"].get(kind, 0)


def refused(call):
    """The status and the error of a call that has to be refused."""
    try:
        answer = call()
    except requests.exceptions.HTTPError as error:
        body = error.response.json()
        assert error.response.headers["content-type"] == "application/json; charset=utf-8"
        return error.response.status_code, body.get("error", body)
    raise AssertionError(f"was not refused: {answer!r}")


def same(seen, wanted):
    assert seen == wanted, f"\nseen   {seen!r}\nwanted {wanted!r}"


# --- metadata ---------------------------------------------------------------------------------------


@part
def whoami():
    same(api.whoami(), {"id": "usrClaireDubois01", "email": "claire.dubois@reseau.example"})


@part
def bases_and_schema():
    same({base.id: base.name for base in api.bases()}, {NETWORK: "Réseau", PLAYGROUND: "Bac à sable"})
    same(api.base(NETWORK).schema().table("Membres").field("Nom complet").type, "singleLineText")
    schema = types.schema()
    same(schema.primary_field_id, schema.field("singleLineText").id)
    kinds = {field.type for field in schema.fields}
    assert {"multipleRecordLinks", "multipleAttachments", "rollup", "aiText", "manualSort"} <= kinds
    link = schema.field("multipleRecordLinks")
    same(link.options.linked_table_id, others.schema().id)
    inverse = others.schema().field(link.options.inverse_link_field_id)
    same(inverse.options.inverse_link_field_id, link.id)
    same([choice.name for choice in schema.field("singleSelect").options.choices], ["A", "B", "C"])
    grid = schema.views[0]
    same((grid.type, grid.visible_field_ids), ("grid", [field.id for field in schema.fields]))


@part
def create_and_change_a_schema():
    base = api.create_base("wspPlait000000001", "Neuf", [{"name": "T", "fields": [{"name": "Nom", "type": "singleLineText"}]}])
    same([table.name for table in base.tables()], ["T"])
    fields = [{"name": "Clé", "type": "singleLineText"}, {"name": "Fait", "type": "checkbox", "options": {"icon": "check", "color": "greenBright"}}]
    table = base.create_table("Tâches", fields, description="à faire")
    same(table.schema().description, "à faire")
    same(table.schema().field("Fait").options.icon, "check")
    made = table.create_field("Prix", "currency", description="HT", options={"precision": 2, "symbol": "€"})
    same((made.name, made.type, made.options.symbol, made.description), ("Prix", "currency", "€", "HT"))
    made.name = "Prix TTC"
    made.save()
    same(table.schema(force=True).field(made.id).name, "Prix TTC")
    schema = table.schema()
    schema.name, schema.description = "Travaux", "faits"
    schema.save()
    same([(t.name, t.description) for t in base.schema(force=True).tables], [("T", None), ("Travaux", "faits")])
    same(refused(lambda: table.create_field("PRIX ttc", "singleLineText")), (422, {"type": "DUPLICATE_OR_EMPTY_FIELD_NAME"}))
    status, error = refused(lambda: table.create_field("N°", "autoNumber"))
    same((status, error["type"]), (422, "UNSUPPORTED_FIELD_TYPE_FOR_CREATE"))


# --- reading ----------------------------------------------------------------------------------------


@part
def list_pages():
    before = count("list")
    records = members.all()
    same((len(records), count("list") - before), (320, 4))
    ids = [record["id"] for record in records]
    same(ids, sorted(ids))
    before = count("list")
    sizes = [len(page) for page in members.iterate(page_size=10, max_records=25)]
    same((sizes, count("list") - before), ([10, 10, 5], 3))


@part
def list_sorted_filtered_cut_and_seen_through_a_view():
    rows = members.all(sort=["-Ville", "Nom complet"], fields=["Ville", "Nom complet"])
    assert all(set(row["fields"]) <= {"Ville", "Nom complet"} for row in rows)
    cities = [row["fields"].get("Ville", "") for row in rows]
    same(cities, sorted(cities, reverse=True, key=str.lower))
    active = members.all(formula=formulas.match({"Statut": "Actif"}))
    assert 0 < len(active) < 320 and all(row["fields"]["Statut"] == "Actif" for row in active)
    two = formulas.OR(formulas.EQ(formulas.RECORD_ID(), rows[0]["id"]), formulas.EQ(formulas.RECORD_ID(), rows[1]["id"]))
    same({row["id"] for row in members.all(formula=two)}, {rows[0]["id"], rows[1]["id"]})
    view = members.schema().views[0]
    through = members.all(view=view.name)
    same(len(through), 320)
    same([row["fields"]["N°"] for row in through], list(range(1, 321)))
    same(members.first(formula="{Nom complet} = 'Nobody'"), None)
    by_id = members.first(use_field_ids=True)
    assert all(key.startswith("fld") for key in by_id["fields"])
    counted = members.first(count_comments=True)
    same(counted["commentCount"], 0)


@part
def list_as_text_in_a_place():
    row = types.create({"singleLineText": "texte", "checkbox": True, "multipleSelects": ["A", "B"], "number": 1234.5, "dateTime": "2024-01-31T22:30:00.000Z"})
    for options in [{}, {"formula": "OR(RECORD_ID()='%s', {singleLineText}='%s')" % (row["id"], "x" * 16_000)}]:
        before = count("list")
        seen = [record for record in types.all(cell_format="string", time_zone="Europe/Paris", user_locale="fr", **options) if record["id"] == row["id"]]
        same(count("list") - before, 1)
        fields = seen[0]["fields"]
        same((fields["checkbox"], fields["multipleSelects"]), ("checked", "A, B"))
        assert "23:30" in fields["dateTime"], fields["dateTime"]
    types.delete(row["id"])


@part
def get_one():
    first = members.first()
    same(members.get(first["id"])["fields"]["Nom complet"], first["fields"]["Nom complet"])
    by_id = members.get(first["id"], use_field_ids=True)
    same(by_id["fields"][members.schema().field("Nom complet").id], first["fields"]["Nom complet"])
    # A record of another table of the base is given all the same.
    same(api.table(NETWORK, "Startups").get(first["id"])["id"], first["id"])


# --- writing ----------------------------------------------------------------------------------------


@part
def create_one_ten_and_many():
    before = count("create")
    one = others.create({"Nom": "seul", "Nombre": 0})
    same(one["fields"], {"Nom": "seul", "Nombre": 0})
    assert one["createdTime"].endswith(".000Z")
    ten = others.batch_create([{"Nom": f"dix {n}"} for n in range(10)])
    same(count("create") - before, 2)
    many = others.batch_create([{"Nom": f"vingt-cinq {n}", "Nombre": n / 10} for n in range(25)], use_field_ids=True)
    same(count("create") - before, 5)
    number = others.schema().field("Nombre").id
    same([record["fields"].get(number) for record in many], [n / 10 for n in range(25)])
    ids = [record["id"] for record in [one, *ten, *many]]
    before = count("delete")
    deleted = others.batch_delete(ids)
    same([answer["id"] for answer in deleted], ids)
    assert all(answer["deleted"] is True for answer in deleted)
    same(count("delete") - before, 4)
    same(others.all(formula="LEFT({Nom}, 3) = 'dix'"), [])


@part
def update_patch_put_one_and_many():
    rows = others.batch_create([{"Nom": f"avant {n}", "Nombre": n} for n in range(12)])
    same(others.update(rows[1]["id"], {"Nom": "après"})["fields"], {"Nom": "après", "Nombre": 1})
    same(others.update(rows[1]["id"], {"Nom": "seul"}, replace=True)["fields"], {"Nom": "seul"})
    before = count("update")
    patched = others.batch_update([{"id": row["id"], "fields": {"Nom": "tous"}} for row in rows])
    same(count("update") - before, 2)
    same([row["id"] for row in patched], [row["id"] for row in rows])
    same(patched[2]["fields"], {"Nom": "tous", "Nombre": 2})
    # Whole records as they came are taken back; `createdTime` is passed over.
    same(others.batch_update(patched[:3]), patched[:3])
    replaced = others.batch_update([{"id": row["id"], "fields": {"Nombre": 9}} for row in rows], replace=True)
    assert all(row["fields"] == {"Nombre": 9} for row in replaced)
    same(others.update(rows[0]["id"], {"Nombre": None})["fields"], {})
    same(others.delete(rows[0]["id"]), {"id": rows[0]["id"], "deleted": True})
    others.batch_delete([row["id"] for row in rows[1:]])


@part
def upsert():
    known = others.create({"Nom": "clé 0", "Nombre": 0})
    before = count("update")
    wishes = [{"fields": {"Nom": f"clé {n}", "Nombre": 100 + n}} for n in range(12)]
    done = others.batch_upsert(wishes, key_fields=["Nom"])
    same(count("update") - before, 2)
    same(done["updatedRecords"], [known["id"]])
    same(len(done["createdRecords"]), 11)
    same([row["fields"]["Nombre"] for row in done["records"]], [100 + n for n in range(12)])
    again = others.batch_upsert([{"fields": {"Nom": "clé 3"}}], key_fields=["Nom"], replace=True)
    same(again["createdRecords"], [])
    same(again["records"][0]["fields"], {"Nom": "clé 3"})
    by_id = others.batch_upsert([{"id": known["id"], "fields": {"Nom": "autre"}}], key_fields=["Nom"])
    same(by_id["updatedRecords"], [known["id"]])
    empty = others.batch_upsert([{"fields": {"Nom": None, "Nombre": 1}}], key_fields=["Nom"])
    same(len(empty["createdRecords"]), 1)
    status, error = refused(lambda: others.batch_upsert([{"fields": {"Nom": "x", "Nombre": 1}}], key_fields=["Nombre", "Nom", "Nombre", "Nom"]))
    same((status, error["type"]), (422, "INVALID_REQUEST_UNKNOWN"))
    others.batch_delete([row["id"] for row in done["records"]] + empty["createdRecords"])


@part
def typecast():
    status, error = refused(lambda: types.create({"singleSelect": "Neuf"}))
    same((status, error["type"]), (422, "INVALID_MULTIPLE_CHOICE_OPTIONS"))
    wish = {"singleSelect": "Neuf", "number": "3.5", "date": "2024-02-29", "multipleRecordLinks": ["Lien neuf"], "multipleSelects": "A, Neuf"}
    made = types.create(wish, typecast=True)
    same({key: made["fields"][key] for key in ["singleSelect", "number", "date", "multipleSelects"]},
         {"singleSelect": "Neuf", "number": 3.5, "date": "2024-02-29", "multipleSelects": ["A", "Neuf"]})
    linked = others.get(made["fields"]["multipleRecordLinks"][0])
    same((linked["fields"]["Nom"], linked["fields"]["Types"]), ("Lien neuf", [made["id"]]))
    choices = {choice.name: choice.id for choice in types.schema(force=True).field("singleSelect").options.choices}
    assert choices["Neuf"].startswith("sel")
    types.delete(made["id"])
    others.delete(linked["id"])


@part
def attachments():
    made = types.create({"multipleAttachments": [{"url": "https://files.example/logo.png"}]})
    cell = made["fields"]["multipleAttachments"][0]
    same(set(cell), {"id", "url", "filename"})
    same((cell["url"], cell["filename"]), ("https://files.example/logo.png", "logo.png"))
    # pyairtable puts `content.airtable.com` into the address; the sandbox answers as a proxy for that host.
    uploads = Api(OWNER, endpoint_url=URL)
    uploads.session.proxies = {"http": URL}
    answer = uploads.table(PLAYGROUND, "Types").upload_attachment(made["id"], "multipleAttachments", "note.txt", "bonjour " * 20, "text/plain")
    same(answer["id"], made["id"])
    files = answer["fields"][types.schema().field("multipleAttachments").id]
    same([(file["filename"], file.get("size")) for file in files][1], ("note.txt", 160))
    with urllib.request.urlopen(files[1]["url"], timeout=20) as reply:
        same(reply.read(), b"bonjour " * 20)
    kept = types.update(made["id"], {"multipleAttachments": [{"id": files[1]["id"]}]})
    same([file["id"] for file in kept["fields"]["multipleAttachments"]], [files[1]["id"]])
    types.delete(made["id"])


@part
def comments():
    row = others.create({"Nom": "commenté"})
    same(others.comments(row["id"]), [])
    first = others.add_comment(row["id"], "Bonjour @[usrMarcLeGoff0001]")
    second = others.add_comment(row["id"], "encore")
    same(first.author.id, "usrClaireDubois01")
    same(first.mentioned["usrMarcLeGoff0001"].display_name, "Marc Le Goff")
    same([comment.text for comment in others.comments(row["id"])], ["encore", "Bonjour @[usrMarcLeGoff0001]"])
    first.text = "corrigé"
    first.save()
    assert first.last_updated_time is not None
    second.delete()
    same([comment.text for comment in others.comments(row["id"])], ["corrigé"])
    same(others.get(row["id"])["id"], row["id"])
    same(others.all(formula="{Nom}='commenté'", count_comments=True)[0]["commentCount"], 1)
    others.delete(row["id"])


# --- errors -----------------------------------------------------------------------------------------


@part
def errors_tell_status_and_body():
    row = others.create({"Nom": "témoin"})
    cases = [
        (lambda: others.get("rec00000000000000"), 404, {"type": "MODEL_ID_NOT_FOUND", "message": "Record not found"}),
        (lambda: others.get("rec"), 404, "NOT_FOUND"),
        (lambda: api.table("junk", "Autres").all(), 404, "NOT_FOUND"),
        (lambda: others.create({"Inconnu": 1}), 422, {"type": "UNKNOWN_FIELD_NAME", "message": 'Unknown field name: "Inconnu"'}),
        (lambda: others.create({"Nombre": "abc"}), 422, {"type": "INVALID_VALUE_FOR_COLUMN", "message": 'Field "Nombre" cannot accept the provided value'}),
        (lambda: types.update(types.first()["id"], {"formula": None}), 422, {"type": "INVALID_VALUE_FOR_COLUMN", "message": 'Field "formula" cannot accept a value because the field is computed'}),
        (lambda: others.all(formula="AND("), 422, {"type": "INVALID_FILTER_BY_FORMULA", "message": "The formula for filtering records is invalid: Invalid formula. Please check your formula text."}),
        (lambda: others.all(formula="{FirstName}=1"), 422, {"type": "INVALID_FILTER_BY_FORMULA", "message": "The formula for filtering records is invalid: Unknown field names: firstname"}),
        (lambda: others.all(view="Nulle part"), 422, {"type": "VIEW_NAME_NOT_FOUND", "message": "View Nulle part not found"}),
        (lambda: others.batch_update([{"id": "rec00000000000000", "fields": {}}]), 422, {"type": "ROW_DOES_NOT_EXIST", "message": "Record ID rec00000000000000 does not exist in this table"}),
        (lambda: others.update("rec00000000000000", {"Nom": "x"}), 404, {"type": "MODEL_ID_NOT_FOUND", "message": "Record not found"}),
        (lambda: others.delete("rec00000000000000"), 404, {"type": "MODEL_ID_NOT_FOUND", "message": "Record not found"}),
        (lambda: api.post(others.urls.records, json={"records": [{"fields": {}}] * 11}), 422, {"type": "INVALID_RECORDS", "message": "A maximum of 10 records can be created per request but you have provided 11."}),
        (lambda: Api("patWrong.0", endpoint_url=URL).whoami(), 401, {"type": "AUTHENTICATION_REQUIRED", "message": "Authentication required"}),
    ]
    types.create({"singleLineText": "témoin"})
    for call, status, error in cases:
        same(refused(call), (status, error))
    hidden = "INVALID_PERMISSIONS_OR_MODEL_NOT_FOUND"
    reader = Api(READER, endpoint_url=URL)
    for call in [lambda: reader.table(PLAYGROUND, "Autres").create({}), lambda: api.table(PLAYGROUND, "Nulle part").all(), lambda: api.table("app00000000000000", "Autres").all()]:
        status, error = refused(call)
        same((status, error["type"]), (403, hidden))
        assert error["message"].startswith("Invalid permissions, or the requested model was not found. Check that both")
    same(reader.table(PLAYGROUND, "Autres").get(row["id"])["fields"], {"Nom": "témoin"})
    others.delete(row["id"])


@part
def errors_leave_nothing_written():
    before = len(others.all())
    same(refused(lambda: others.batch_create([{"Nom": "bon"}] * 9 + [{"Nombre": "mauvais"}]))[0], 422)
    same(len(others.all()), before)


# --- rate limits ------------------------------------------------------------------------------------


@part
def rate_limit_refused_calls_are_tried_again_by_the_client():
    control("POST", "faults", {"kind": "rate_limit", "request": "create", "count": 2})
    before = count("create")
    row = others.create({"Nom": "troisième essai"})
    same(count("create") - before, 3)
    same(len(others.all(formula="{Nom}='troisième essai'")), 1)
    others.delete(row["id"])


@part
def rate_limit_of_five_a_second():
    eager = Api(OWNER, endpoint_url=URL, retry_strategy=None).table(PLAYGROUND, "Autres")
    control("PATCH", "config", {"limits": True, "penalty_ms": 200})
    control("POST", "limits/forgive")
    refusal = None
    for _ in range(100):
        try:
            eager.first()
        except requests.exceptions.HTTPError as error:
            refusal = error.response
            break
    same(refusal.status_code, 429)
    same(refusal.json(), {"errors": [{"error": "RATE_LIMIT_REACHED", "message": "Rate limit exceeded. Please try again later"}]})
    assert "retry-after" not in refusal.headers
    # The client's own retries outlast the penalty.
    same([others.first() is not None or True for _ in range(12)], [True] * 12)
    control("PATCH", "config", {"limits": False, "penalty_ms": 30_000})


# --- webhooks ---------------------------------------------------------------------------------------


class Receiver(http.server.BaseHTTPRequestHandler):
    pings = queue.Queue()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.pings.put((body.decode(), self.headers["X-Airtable-Content-MAC"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


@part
def webhook_from_its_making_to_its_end():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = api.base(PLAYGROUND)
    name, number = others.schema().field("Nom").id, others.schema().field("Nombre").id
    spec = {"options": {"filters": {"dataTypes": ["tableData"], "recordChangeScope": others.schema().id}, "includes": {"includePreviousCellValues": True, "includeCellValuesInFieldIds": "all"}}}
    made = base.add_webhook(f"http://127.0.0.1:{server.server_port}/hook", spec)
    assert made.id.startswith("ach")
    week = datetime.timedelta(days=7)
    now = datetime.datetime.now(datetime.timezone.utc)
    assert abs(made.expiration_time - now - week) < datetime.timedelta(minutes=1)
    hook = base.webhook(made.id)
    same((hook.are_notifications_enabled, hook.cursor_for_next_payload, hook.is_hook_enabled), (True, 1, True))
    same(list(hook.payloads()), [])

    row = others.create({"Nom": "un", "Nombre": 1})
    body, signature = Receiver.pings.get(timeout=20)
    ping = WebhookNotification.from_request(body, signature, made.mac_secret_base64)
    same((ping.base.id, ping.webhook.id), (PLAYGROUND, made.id))
    others.update(row["id"], {"Nombre": 2})
    others.update(row["id"], {"Nombre": None})
    others.delete(row["id"])
    payloads = list(hook.payloads())
    same([payload.cursor for payload in payloads], [1, 2, 3, 4])
    numbers = [payload.base_transaction_number for payload in payloads]
    same(numbers, sorted(set(numbers)))
    same({payload.action_metadata.source for payload in payloads}, {"publicApi"})
    same(payloads[0].action_metadata.source_metadata["user"]["id"], "usrClaireDubois01")
    table = others.schema().id
    created, changed, cleared, destroyed = [payload.changed_tables_by_id[table] for payload in payloads]
    same(created.created_records_by_id[row["id"]].cell_values_by_field_id, {name: "un", number: 1})
    change = changed.changed_records_by_id[row["id"]]
    same(change.current.cell_values_by_field_id, {number: 2})
    same(change.previous.cell_values_by_field_id, {number: 1})
    same(change.unchanged.cell_values_by_field_id, {name: "un"})
    same(cleared.changed_records_by_id[row["id"]].current.cell_values_by_field_id, {number: None})
    same(destroyed.destroyed_record_ids, [row["id"]])
    same([payload.cursor for payload in hook.payloads(cursor=3)], [3, 4])
    same([payload.cursor for payload in hook.payloads(cursor=2, limit=1)], [2])

    for n in range(60):
        row = others.create({"Nom": f"suite {n}"})
        others.delete(row["id"])
    before = count("payloads")
    same([payload.cursor for payload in hook.payloads(cursor=5)], list(range(5, 125)))
    same(count("payloads") - before, 3)

    hook.disable_notifications()
    same(base.webhook(made.id).are_notifications_enabled, False)
    hook.enable_notifications()
    same(base.webhook(made.id).are_notifications_enabled, True)
    shown = base.webhook(made.id)
    same((shown.last_notification_result.success, shown.last_notification_result.retry_number), (True, 0))
    was = shown.expiration_time
    hook.extend_expiration()
    assert base.webhook(made.id).expiration_time >= was
    hook.delete()
    same([known.id for known in base.webhooks() if known.id == made.id], [])
    same(refused(lambda: list(hook.payloads())), (404, {"type": "MODEL_ID_NOT_FOUND"}))
    server.shutdown()
    server.server_close()


@part
def webhook_refused():
    base = api.base(PLAYGROUND)
    bad = {"options": {"filters": {"dataTypes": ["tableData"], "watchDataInFieldIds": ["fld00000000000000"]}}}
    status, error = refused(lambda: base.add_webhook("http://127.0.0.1:1/", bad))
    same((status, error["type"]), (422, "UNKNOWN_FIELD_NAME"))
    reader = Api(READER, endpoint_url=URL).base(PLAYGROUND)
    same(refused(lambda: reader.webhooks())[0], 403)


os.environ.pop("HTTP_PROXY", None)
os.environ["NO_PROXY"] = "*"
for check in PARTS:
    check()
    print("ok", check.__name__, flush=True)
