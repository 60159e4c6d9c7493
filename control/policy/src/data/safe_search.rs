//! Safe search of search engines: aliases from their names to servers that filter results.
//!
//! Each engine documents its names: Google and YouTube in the help for administrators ("Lock
//! SafeSearch", "Restrict YouTube content"), Bing in "Block adult content with SafeSearch" (strict),
//! DuckDuckGo in "Safe search".

use super::{DataBuilder, LocalData, LocalRecord};
use ringdns_common::names;

/// TTL of the aliases in seconds.
const TTL: u32 = 300;

/// Domains of Google Search behind `www.google.`, as <https://www.google.com/supported_domains> has
/// them.
const GOOGLE: &str = "com ad ae com.af com.ag al am co.ao com.ar as at com.au az ba com.bd be bf bg com.bh bi bj \
    com.bn com.bo com.br bs bt co.bw by com.bz ca cd cf cg ch ci co.ck cl cm cn com.co co.cr com.cu cv com.cy cz \
    de dj dk dm com.do dz com.ec ee com.eg es com.et fi com.fj fm fr ga ge gg com.gh com.gi gl gm gr com.gt gy \
    com.hk hn hr ht hu co.id ie co.il im co.in iq is it je com.jm jo co.jp co.ke com.kh ki kg co.kr com.kw kz la \
    com.lb li lk co.ls lt lu lv com.ly co.ma md me mg mk ml com.mm mn com.mt mu mv mw com.mx com.my co.mz com.na \
    com.ng com.ni ne nl no com.np nr nu co.nz com.om com.pa com.pe com.pg com.ph com.pk pl pn com.pr ps pt com.py \
    com.qa ro ru rw com.sa com.sb sc se com.sg sh si sk com.sl sn so sm sr st com.sv td tg co.th com.tj tl tm tn to \
    com.tr tt com.tw co.tz com.ua co.ug co.uk com.uy co.uz com.vc co.ve co.vi com.vn vu ws rs co.za co.zm co.zw cat";
const GOOGLE_SAFE: &str = "forcesafesearch.google.com";

const BING: &[&str] = &["bing.com", "www.bing.com"];
const BING_SAFE: &str = "strict.bing.com";

const YOUTUBE: &[&str] = &[
    "www.youtube.com",
    "m.youtube.com",
    "youtubei.googleapis.com",
    "youtube.googleapis.com",
    "www.youtube-nocookie.com",
];

const DUCKDUCKGO: &[&str] = &["duckduckgo.com", "www.duckduckgo.com", "start.duckduckgo.com"];
const DUCKDUCKGO_SAFE: &str = "safe.duckduckgo.com";

/// Strictness of YouTube.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum YouTube {
    /// Fewest videos.
    Strict,
    /// More videos.
    Moderate,
}

impl YouTube {
    fn target(self) -> &'static str {
        match self {
            YouTube::Strict => "restrict.youtube.com",
            YouTube::Moderate => "restrictmoderate.youtube.com",
        }
    }
}

/// Engines whose results are filtered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SafeSearch {
    /// Google Search.
    pub google: bool,
    /// Bing.
    pub bing: bool,
    /// YouTube; `None`: as it is.
    pub youtube: Option<YouTube>,
    /// DuckDuckGo.
    pub duckduckgo: bool,
}

/// Returns the aliases of engines.
pub fn data(engines: SafeSearch) -> LocalData {
    let mut builder = DataBuilder::default();
    let mut lead = |owner: &str, target: &str| {
        // The names above are names, each of which is there once.
        if let (Ok(owner), Ok(target)) = (names::name(owner), names::name(target)) {
            let added = builder.record(LocalRecord::alias(owner.into(), TTL, target.into()));
            debug_assert!(added.is_ok(), "{added:?}");
        }
    };
    if engines.google {
        GOOGLE.split_whitespace().for_each(|end| lead(&format!("www.google.{end}"), GOOGLE_SAFE));
    }
    let bing = if engines.bing { BING } else { &[] };
    bing.iter().for_each(|owner| lead(owner, BING_SAFE));
    if let Some(strictness) = engines.youtube {
        YOUTUBE.iter().for_each(|owner| lead(owner, strictness.target()));
    }
    let duckduckgo = if engines.duckduckgo { DUCKDUCKGO } else { &[] };
    duckduckgo.iter().for_each(|owner| lead(owner, DUCKDUCKGO_SAFE));
    builder.finish(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::End;

    #[test]
    fn names_of_engines_lead_to_their_filtering_servers() {
        let all = SafeSearch { google: true, bing: true, youtube: Some(YouTube::Moderate), duckduckgo: true };
        let target = |engines, name: &str| {
            let data = data(engines);
            let answer = data.answer(&names::name(name).unwrap(), 1)?;
            let End::LeadsTo(target) = answer.end else { panic!("{answer:?}") };
            Some(names::display(&target))
        };
        for (name, expected) in [
            ("www.google.com", Some("forcesafesearch.google.com.")),
            ("www.google.co.uk", Some("forcesafesearch.google.com.")),
            ("www.bing.com", Some("strict.bing.com.")),
            ("m.youtube.com", Some("restrictmoderate.youtube.com.")),
            ("duckduckgo.com", Some("safe.duckduckgo.com.")),
            // Targets and other services are resolved as usual.
            ("forcesafesearch.google.com", None),
            ("mail.google.com", None),
            ("restrict.youtube.com", None),
        ] {
            assert_eq!(target(all, name).as_deref(), expected, "{name}");
            assert_eq!(target(SafeSearch::default(), name), None, "{name}");
        }
        let strict = SafeSearch { youtube: Some(YouTube::Strict), ..SafeSearch::default() };
        assert_eq!(target(strict, "www.youtube.com").as_deref(), Some("restrict.youtube.com."));
        assert_eq!(data(all).records(), GOOGLE.split_whitespace().count() + BING.len() + YOUTUBE.len() + 3);
        assert!(data(SafeSearch::default()).is_empty());
    }
}
