//! Schemathesis (PyPI) compares ringdnsd with its own OpenAPI document: it makes requests that the
//! document allows and such as it forbids, and looks at the answers.

use crate::{Scene, hostile::OPERATE};
use std::{path::Path, process::Command};

/// Folder in which `deploy/setup.sh test` installs Python packages, unless RINGDNS_PYTHON names another.
const PYTHON: &str = "/opt/ringdns-tests";

/// Properties that are checked. Not among them: that all text which a parameter's schema allows is
/// accepted, since no schema says what is a name, and that answers have all headers.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_schema_conformance,negative_data_rejection,unsupported_method,ignored_auth";

#[test]
fn the_implementation_does_what_its_document_says() {
    let folder = std::env::var("RINGDNS_PYTHON").unwrap_or_else(|_| PYTHON.into());
    let program = Path::new(&folder).join("bin/schemathesis");
    assert!(program.exists(), "{} is missing: run deploy/setup.sh test", program.display());
    let scene = Scene::set(&[]);
    let place = tempfile::tempdir().unwrap();
    let mut command = Command::new("timeout");
    command.arg("90").arg(program).args(["run", &format!("http://{}/v1/openapi.json", scene.http)]);
    command.args(["--header", &format!("Authorization: Bearer {OPERATE}")]);
    // A profile of CPU time takes 30 seconds, and a capture its time, of 10 minutes.
    for slow in ["cpu_profile", "capture"] {
        command.args(["--exclude-operation-id", slow]);
    }
    command.args(["--phases", "examples,coverage,fuzzing"]);
    command.args(["--checks", CHECKS, "--seed", "53", "--max-examples", "10", "--max-time", "45"]);
    command.args(["--generation-database", "none", "--no-color", "--continue-on-failure"]);
    command.current_dir(&place).env("HOME", place.path());
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    println!("{told}");
    scene.is_healthy();
    assert!(!scene.ringdnsd.process().output().contains("panicked"));
}
