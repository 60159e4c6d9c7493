//! Tests that wrong configurations are refused, each with file, line, key, reason and remedy.

#[path = "wrong/mod.rs"]
mod wrong;

use ringdns_config::{Config, schema};
use serde_json::Value;
use std::{fs, path::Path};

#[test]
fn each_is_refused_with_line_key_and_reason() {
    let all = wrong::all();
    assert!(all.len() >= 60, "{}", all.len());
    for wrong in all {
        let refusal = Config::parse(&wrong.text, Path::new("ringdns.toml")).expect_err(wrong.title);
        wrong.check("ringdns.toml", &refusal.lines());
    }
}

/// Folders of the project with configurations.
const FOLDERS: [&str; 2] = ["deploy", "bench"];

/// Returns the configurations in the TOML files of a folder.
fn configurations(folder: &Path) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(configurations(&path));
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            let file: Value = toml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            // Files of benchmarks have those that they start servers with in them.
            let within = file["files"].as_object().into_iter().flatten();
            let within = within.filter_map(|(_, text)| toml::from_str(text.as_str()?).ok());
            let all = within.chain([file.clone()]).filter(|file| file["server"]["listen"].is_array());
            found.extend(all.map(|file| (path.display().to_string(), file)));
        }
    }
    found
}

#[test]
fn the_schema_accepts_what_is_right_and_refuses_what_is_wrong() {
    let validator = jsonschema::validator_for(&schema::schema()).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let samples: Vec<_> = FOLDERS.iter().flat_map(|folder| configurations(&root.join(folder))).collect();
    assert!(samples.len() >= 8, "{}", samples.len());
    for (name, sample) in samples {
        let errors: Vec<_> = validator.iter_errors(&sample).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}");
    }
    let mut refused = 0;
    for wrong in wrong::all() {
        // What the types or the names of keys say: an editor can tell.
        let is_of_types = |(_, parts): &(usize, Vec<&str>)| {
            parts
                .iter()
                .any(|part| ["expected ", "unknown ", "Did you mean"].iter().any(|word| part.contains(word)))
        };
        let Ok(value) = toml::from_str::<Value>(&wrong.text) else { continue };
        if wrong.problems.iter().any(is_of_types) {
            assert!(!validator.is_valid(&value), "{}", wrong.title);
            refused += 1;
        }
    }
    assert!(refused >= 20, "{refused}");
}
