//! Download of a list over HTTP, into a file.
//!
//! The hosts of lists are resolved by the process's own resolver: an appliance that has just started,
//! and that is its own name server, must not need itself. A list may come from anybody, so the time,
//! the decompressed size, and the number of redirects are limited, and memory does not grow with it.

use super::copies::{CopyError, CopyNote, Digest, Part};
use reqwest::{
    Client, ClientBuilder, Proxy, Response, StatusCode, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{
        CONTENT_ENCODING, ETAG, HeaderMap, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
    },
    redirect::{Action, Attempt, Policy},
};
use ringdns_common::{names, printable::Printable, units::Bytes};
use ringdns_config::FetchConfig;
use ringdns_dataplane::dns::{reply::Age, rtype};
use ringdns_resolver::{Resolver, message::Message};
use ringdns_tls as tls;
use std::{
    error::Error,
    io::{self, Write},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{fs::File, io::AsyncWriteExt, join, time::timeout};

/// Most redirects that are followed.
const REDIRECTS: usize = 5;
/// Time after which a server that cannot be connected to is given up, if the time-out of the whole
/// download is not shorter.
const CONNECT: Duration = Duration::from_secs(15);
/// Longest entity tag or date that is kept, in bytes.
const VALIDATOR_MAX: usize = 1_024;

/// Reason why a list was not downloaded.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The trusted CAs or the proxy cannot be used.
    #[error("{0}")]
    Setup(String),
    /// The server could not be reached, or the connection broke.
    #[error("{0}")]
    Failed(String),
    /// The server answered with an error.
    #[error("the server answered {0}. Check the URL")]
    Status(StatusCode),
    /// The server confirmed a copy that it was not asked about.
    #[error("the server answered 304, but was not asked about a copy. Check the URL")]
    Unasked,
    /// The list is compressed in a way that was not asked for.
    #[error("the server sent the encoding {}, but was asked for gzip alone", Printable(.0))]
    Encoding(String),
    /// The list is too large.
    #[error("the list is larger than {0}. If that is right, raise lists.max_bytes")]
    TooLarge(Bytes),
    /// The download took too long.
    #[error("the download was not complete after {0:?}. Check the server, or raise lists.timeout")]
    Late(Duration),
    /// The file cannot be written.
    #[error("{0}")]
    Copy(#[from] CopyError),
    /// The file cannot be written to its end.
    #[error("the list cannot be written: {0}. Make room in lists.dir")]
    Write(io::Error),
}

/// Result of a download.
#[derive(Debug, PartialEq, Eq)]
pub enum Download {
    /// The copy is still current.
    Unchanged,
    /// A list was written to the file.
    Changed(CopyNote),
}

/// Downloads a list into the file of `part`. `known` is a note about the current copy, if there is
/// one: the server is asked whether it has another.
pub async fn download(
    config: &FetchConfig,
    resolver: &Arc<Resolver>,
    url: &str,
    known: Option<&CopyNote>,
    part: &Part,
) -> Result<Download, DownloadError> {
    let transfer = async {
        let response = ask(config, resolver, url, known).await?;
        match (response.status(), known) {
            (StatusCode::OK, _) => {}
            (StatusCode::NOT_MODIFIED, Some(_)) => return Ok(Download::Unchanged),
            (StatusCode::NOT_MODIFIED, None) => return Err(DownloadError::Unasked),
            (status, _) => return Err(DownloadError::Status(status)),
        }
        // The client has removed the header of what it decompresses.
        if let Some(encoding) = response.headers().get(CONTENT_ENCODING)
            && encoding != "identity"
        {
            return Err(DownloadError::Encoding(String::from_utf8_lossy(encoding.as_bytes()).into_owned()));
        }
        let (etag, last_modified) =
            (validator(response.headers(), ETAG), validator(response.headers(), LAST_MODIFIED));
        let sha256 = save(response, config.max_bytes, part).await?;
        Ok(Download::Changed(CopyNote {
            url: url.to_owned(),
            etag,
            last_modified,
            sha256,
            ..CopyNote::default()
        }))
    };
    timeout(config.timeout, transfer).await.unwrap_or(Err(DownloadError::Late(config.timeout)))
}

/// Sends the request. Returns the response once its headers are there.
async fn ask(
    config: &FetchConfig,
    resolver: &Arc<Resolver>,
    url: &str,
    known: Option<&CopyNote>,
) -> Result<Response, DownloadError> {
    let client = client(config, resolver)?;
    let mut request = client.get(url);
    if let Some(known) = known {
        let validators = [(IF_NONE_MATCH, &known.etag), (IF_MODIFIED_SINCE, &known.last_modified)];
        for (header, value) in validators {
            if let Some(value) = value {
                request = request.header(header, value);
            }
        }
    }
    request.send().await.map_err(failed)
}

fn client(config: &FetchConfig, resolver: &Arc<Resolver>) -> Result<Client, DownloadError> {
    let tls = tls::client_config(config.tls_ca_file.as_deref(), b"http/1.1")
        .map_err(|error| DownloadError::Setup(format!("lists.tls_ca_file: {error}")))?;
    let setup = |error: reqwest::Error| DownloadError::Setup(innermost(&error.without_url()));
    let mut builder: ClientBuilder = Client::builder()
        .tls_backend_preconfigured((*tls).clone())
        .dns_resolver(Arc::new(OwnResolver(resolver.clone())))
        .user_agent(concat!("ringdns/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::custom(follow))
        .referer(false)
        .http1_only()
        .connect_timeout(CONNECT)
        .pool_max_idle_per_host(0)
        // Of the environment.
        .no_proxy();
    if let Some(proxy) = &config.proxy {
        builder = builder.proxy(Proxy::all(proxy).map_err(setup)?);
    }
    builder.build().map_err(setup)
}

fn follow(attempt: Attempt<'_>) -> Action {
    let was_secret = attempt.previous().iter().any(|url| url.scheme() == "https");
    if attempt.previous().len() > REDIRECTS {
        return attempt.error(format!("the server redirects more than {REDIRECTS} times. Check the URL"));
    }
    if was_secret && attempt.url().scheme() != "https" {
        let reason = "the server redirects from https:// to another scheme, where others could change the list. Find out its new URL";
        return attempt.error(reason);
    }
    attempt.follow()
}

/// Writes the body to the file. Returns its digest.
async fn save(mut response: Response, max_bytes: u64, part: &Part) -> Result<String, DownloadError> {
    let mut file = File::from_std(part.file.try_clone().map_err(DownloadError::Write)?);
    let (mut digest, mut left) = (Digest::default(), max_bytes);
    while let Some(piece) = response.chunk().await.map_err(failed)? {
        left = left.checked_sub(piece.len() as u64).ok_or(DownloadError::TooLarge(Bytes(max_bytes)))?;
        digest.write_all(&piece).map_err(DownloadError::Write)?;
        file.write_all(&piece).await.map_err(DownloadError::Write)?;
    }
    file.flush().await.map_err(DownloadError::Write)?;
    Ok(digest.finish())
}

/// Returns a header that tells versions of a list apart.
fn validator(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    (value.len() <= VALIDATOR_MAX).then(|| value.to_owned())
}

/// Explains a failed request. URLs may contain keys of subscribers, so they are left out.
fn failed(error: reqwest::Error) -> DownloadError {
    let host = error.url().and_then(Url::host_str).unwrap_or("the server").to_owned();
    let error = error.without_url();
    let mut source: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(at) = source {
        if let Some(of_tls) = at.downcast_ref() {
            return DownloadError::Failed(tls::explain_host(of_tls, &host));
        }
        // An I/O error leaves out the error that it was made of.
        let inner = at.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        source = inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| at.source());
    }
    let reason = innermost(&error);
    let reason = Printable(&reason);
    DownloadError::Failed(match () {
        () if error.is_redirect() => reason.to_string(),
        () if error.is_connect() => format!("{host} cannot be reached: {reason}"),
        () if error.is_body() || error.is_decode() => format!("{host} did not send the whole list: {reason}"),
        () => format!("{host} did not answer the request: {reason}"),
    })
}

/// Returns the text of an error's last cause.
fn innermost(error: &dyn Error) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}

/// Resolution of hosts by the process itself.
struct OwnResolver(Arc<Resolver>);

impl Resolve for OwnResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.0.clone();
        Box::pin(async move {
            let host = names::name(name.as_str())?;
            let (v4, v6) =
                join!(addresses(&resolver, &host, rtype::A), addresses(&resolver, &host, rtype::AAAA));
            let found: Vec<_> = v4.into_iter().chain(v6).map(|ip| SocketAddr::new(ip, 0)).collect();
            if found.is_empty() {
                return Err(format!("the upstreams know no address of {}", name.as_str()).into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Returns the addresses that upstreams have for a host. Lists have no part in this: one that blocks
/// the host of another must not keep it from being renewed.
async fn addresses(resolver: &Arc<Resolver>, host: &[u8], qtype: u16) -> Vec<IpAddr> {
    let Some(key) = names::key(host, qtype, false, false) else { return Vec::new() };
    let resolved = resolver.resolve(&key).await;
    let message = Message::of(&key, &resolved.answer, Age::Fresh(0));
    let records = message.into_iter().flat_map(|message| message.answers);
    records
        .filter(|record| record.rtype == qtype)
        .filter_map(|record| match record.rdata.len() {
            4 => <[u8; 4]>::try_from(&*record.rdata).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(&*record.rdata).ok().map(IpAddr::from),
        })
        .collect()
}
