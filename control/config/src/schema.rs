//! JSON Schema of the configuration file, for editors, generated from the tables.
//!
//! It has what an editor can check while somebody types: keys, types, words, defaults. `ringdnsd --check`
//! checks more.

use crate::{
    table::{KeyDoc, TableDoc},
    tables::RawConfig,
};
use serde_json::{Map, Value, json};

/// Dialect of JSON Schema: the latest that editors of TOML files know (taplo).
const DIALECT: &str = "http://json-schema.org/draft-07/schema#";

/// Returns the schema.
pub fn schema() -> Value {
    let tables = RawConfig::tables();
    let name = |table: &TableDoc| table.header.trim_matches(['[', ']']).to_owned();
    let is_required = |table: &&TableDoc| matches!(table.header, "[server]" | "[[upstream]]");
    let required: Vec<_> = tables.iter().filter(is_required).map(name).collect();
    let properties: Map<_, _> = tables.iter().map(|table| (name(table), table_schema(table))).collect();
    json!({
        "$schema": DIALECT,
        "title": "ringdns.toml",
        "description": "Configuration of ringdnsd",
        "type": "object",
        "additionalProperties": false,
        "required": required,
        "properties": properties,
    })
}

fn table_schema(table: &TableDoc) -> Value {
    let required: Vec<_> = table.keys.iter().filter(|key| is_required(key)).map(|key| key.name).collect();
    let properties: Map<_, _> = table.keys.iter().map(|key| (key.name.to_owned(), key_schema(key))).collect();
    let doc = text(table.doc);
    let one = json!({
        "type": "object",
        "additionalProperties": false,
        "required": required,
        "properties": properties,
    });
    if table.header.starts_with("[[") {
        return json!({ "description": doc, "type": "array", "items": one });
    }
    let mut one = one;
    one["description"] = doc.into();
    one
}

/// Whether the documentation of a key ends by saying that it is required.
fn is_required(key: &KeyDoc) -> bool {
    text(key.doc).ends_with(" Required.")
}

fn key_schema(key: &KeyDoc) -> Value {
    let integer = match key.max {
        Some(max) => json!({ "type": "integer", "minimum": 0, "maximum": max }),
        None => json!({ "type": "integer", "minimum": 0 }),
    };
    let string = match key.words {
        [] => json!({ "type": "string" }),
        words => json!({ "type": "string", "enum": words }),
    };
    let mut schema = match key.kind {
        "boolean" => json!({ "type": "boolean" }),
        "integer" => integer,
        "duration" => json!({ "type": "string", "pattern": "^[0-9]+ *(us|ms|s|m|h|d)$" }),
        "bytes" => json!({ "anyOf": [
            { "type": "integer", "minimum": 0 },
            { "type": "string", "pattern": "^[0-9]+ *([KMG]iB|[kMG]?B)$" },
        ] }),
        "list of strings" => json!({ "type": "array", "items": string }),
        "list of integers" => json!({ "type": "array", "items": integer }),
        _ => string,
    };
    schema["description"] = text(key.doc).into();
    if let Some(default) = key.default.as_deref().and_then(json_of) {
        schema["default"] = default;
    }
    schema
}

/// Returns a value as written in a file as JSON.
fn json_of(written: &str) -> Option<Value> {
    let mut table: toml::Table = toml::from_str(&format!("value = {written}")).ok()?;
    serde_json::to_value(table.remove("value")?).ok()
}

/// Returns a doc comment as one paragraph.
fn text(doc: &[&str]) -> String {
    doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}
