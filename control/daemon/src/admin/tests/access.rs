//! Tests of who may do what, and of what is recorded of it.

use super::*;

#[tokio::test]
async fn what_changes_something_needs_the_role_for_it() {
    let doors = Doors::open().await;
    for (token, expected) in [
        (None, StatusCode::UNAUTHORIZED),
        (Some("x"), StatusCode::UNAUTHORIZED),
        (Some(READ), StatusCode::FORBIDDEN),
    ] {
        let stream = TcpStream::connect(doors.http).await.unwrap();
        let (status, body) = request(stream, "POST", "/v1/cache/purge?all=true", token).await;
        assert_eq!(status, expected, "{token:?}: {body}");
    }
    assert_eq!(doors.service.resolver.host().len(), 1);
    let (status, _) = doors.over_socket("GET", "/v1/cache/purge?all=true").await;
    assert_eq!((status, doors.service.resolver.host().len()), (StatusCode::METHOD_NOT_ALLOWED, 1));
    let (status, _) = doors.over_socket("POST", "/v1/cache/purge?all=true").await;
    assert_eq!((status, doors.service.resolver.host().len()), (StatusCode::OK, 0));
}

#[tokio::test]
async fn changes_are_recorded_with_their_callers_and_results() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.log");
    let doors = Doors::open_with(&format!("[control]\naudit_log = {file:?}")).await;
    let purge = "/v1/cache/purge?name=www.example.com";
    doors.over_tcp("POST", purge).await;
    doors.with_token(READ, "POST", purge).await;
    doors.with_token(OPERATE, "POST", purge).await;
    doors.over_socket("POST", "/v1/cache/purge?nmae=%0a").await;
    doors.over_socket("GET", "/v1/logging").await;
    let kept: Vec<AuditRecord> =
        serde_json::from_str(&doors.with_token(OPERATE, "GET", "/v1/audit").await.1).unwrap();
    let told: Vec<_> = kept.iter().map(|line| (&*line.who, &*line.parameters, line.status)).collect();
    let me = kept[2].who.as_str();
    assert!(me.starts_with("user:") || me.starts_with("uid:"), "{me}");
    let name = "name=www.example.com";
    let expected = [("token:reader", name, 403), ("token:ops", name, 200), (me, "nmae=%0a", 400)];
    assert_eq!(told, expected);
    assert!(kept[0].error.as_ref().is_some_and(|error| error.contains("operate")) && kept[1].error.is_none());
    assert!(
        kept[0].peer.as_ref().is_some_and(|peer| peer.starts_with("127.0.0.1:")) && kept[2].peer.is_none()
    );
    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<AuditRecord> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, kept);
    assert!(!text.contains(OPERATE) && !text.contains(READ));
    assert_eq!(doors.with_token(READ, "GET", "/v1/audit").await.0, StatusCode::FORBIDDEN);
    let last = doors.with_token(OPERATE, "GET", "/v1/audit?last=1").await.1;
    assert_eq!(serde_json::from_str::<Vec<AuditRecord>>(&last).unwrap(), kept[2..]);
}

#[tokio::test]
async fn tokens_are_taken_over_at_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    let line = |text: &str| {
        let hash: String =
            token("", Role::Read, text).hash.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("grafana read {hash}\n")
    };
    fs::write(&file, line("one")).unwrap();
    let doors = Doors::open_with(&format!("[control]\ntokens_file = {file:?}")).await;
    fs::write(&file, line("two")).unwrap();
    let told = r#"{"applied":["control"],"needs_restart":[]}"#;
    assert_eq!(doors.over_socket("POST", "/v1/reload").await.1, told);
    for (token, expected) in [("one", 401), ("two", 200), (OPERATE, 401)] {
        assert_eq!(doors.with_token(token, "GET", "/v1/status").await.0, expected, "{token}");
    }
    fs::write(&file, "grafana read two").unwrap();
    let (status, body) = doors.over_socket("POST", "/v1/reload").await;
    assert!(status == StatusCode::BAD_REQUEST && body.contains("control.tokens_file"), "{body}");
    assert_eq!(
        doors.with_token("two", "GET", "/v1/status").await.0,
        StatusCode::OK,
        "the last good ones stay"
    );
}

#[tokio::test]
async fn metrics_are_open_if_the_configuration_says_so() {
    for (table, expected) in
        [("", StatusCode::OK), ("[control]\nopen_metrics = \"none\"", StatusCode::UNAUTHORIZED)]
    {
        let doors = Doors::open_with(table).await;
        assert_eq!(doors.over_tcp("GET", "/metrics").await.0, expected, "{table}");
        assert_eq!(doors.with_token(READ, "GET", "/metrics").await.0, StatusCode::OK);
        assert_eq!(doors.over_socket("GET", "/metrics").await.0, StatusCode::OK);
    }
}

#[tokio::test]
async fn profiles_are_given_over_http_only_if_that_is_asked_for() {
    for (table, expected) in [
        ("", StatusCode::UNAUTHORIZED),
        ("[control]\nhttp = \"127.0.0.1:1\"\nprofiles_over_http = true", StatusCode::BAD_REQUEST),
    ] {
        let doors = Doors::open_with(table).await;
        for bad in ["seconds=0", "seconds=301", "seconds=x", "for=3"] {
            let path = format!("/v1/debug/pprof/profile?{bad}");
            let (status, body) = doors.over_socket("GET", &path).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{bad}: {body}");
            assert_eq!(doors.over_tcp("GET", &path).await.0, expected, "{table} {bad}");
        }
    }
    let told =
        Config::parse(&format!("{TEXT}[control]\nprofiles_over_http = true"), Path::new("")).unwrap_err();
    assert!(told.to_string().contains("control.profiles_over_http"), "{told}");
}

/// Every path of the document is served with its methods, and needs the role that it says.
#[tokio::test]
async fn the_document_describes_what_is_served() {
    let doors = Doors::open().await;
    routes::tests::agree(&doors.service);
    let document = doors.json("/v1/openapi.json").await;
    let (mut ids, mut open) = (HashSet::new(), Vec::new());
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = &path.replace("{kind}", "names");
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id.to_owned()), "{id} is there twice");
            assert!(operation["summary"].as_str().is_some_and(|text| text.ends_with('.')), "{operation}");
            let method = method.to_uppercase();
            let (anyone, _) = doors.over_tcp(&method, path).await;
            let (reader, _) = doors.with_token(READ, &method, path).await;
            match operation["security"][0]["token"][0].as_str() {
                None => open.push(path.clone()),
                Some("read") => {
                    assert_eq!(anyone, 401, "{path}");
                    assert!(![401, 403, 404, 405].contains(&reader.as_u16()), "{path}: {reader}");
                }
                Some("operate") => assert_eq!((anyone.as_u16(), reader.as_u16()), (401, 403), "{path}"),
                other => panic!("{path}: {other:?}"),
            }
            assert_eq!(
                method == "POST",
                id.starts_with("set_")
                    || operation["security"][0]["token"][0] == "operate"
                        && !["audit", "capture", "heap_profile", "cpu_profile"].contains(&id),
                "{path}: a change needs the role for it"
            );
        }
    }
    open.sort();
    assert_eq!(open, ["/healthz", "/metrics", "/readyz"]);
    let (_, refused) = doors.over_tcp("GET", "/v1/status").await;
    let refused: Value = serde_json::from_str(&refused).unwrap();
    assert!(refused["error"].as_str().is_some_and(|reason| reason.contains("Bearer")), "{refused}");
}
