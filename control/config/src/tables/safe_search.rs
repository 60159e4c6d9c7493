//! `[safe_search]`: search engines that filter their results.

use crate::{table::table, values::choice};

table! {
    /// Search engines that filter their results: their names are answered with an alias to servers
    /// that do so. Lists and local data win over it.
    "[safe_search]" RawSafeSearch {
        /// Whether Google Search does (`forcesafesearch.google.com`).
        google: bool = false,
        /// Whether Bing does (`strict.bing.com`).
        bing: bool = false,
        /// Videos of YouTube that are left out: `"none"`, `"moderate"`
        /// (`restrictmoderate.youtube.com`) or `"strict"` (`restrict.youtube.com`).
        youtube: YouTubeFilter = YouTubeFilter::None,
        /// Whether DuckDuckGo does (`safe.duckduckgo.com`).
        duckduckgo: bool = false,
    }
}

choice! {
    /// Videos of YouTube that are left out.
    YouTubeFilter {
        /// None.
        #[default]
        None = "none",
        /// Some.
        Moderate = "moderate",
        /// More.
        Strict = "strict",
    }
}

/// Search engines that filter their results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SafeSearchConfig {
    /// Whether Google Search does.
    pub google: bool,
    /// Whether Bing does.
    pub bing: bool,
    /// Videos of YouTube that are left out.
    pub youtube: YouTubeFilter,
    /// Whether DuckDuckGo does.
    pub duckduckgo: bool,
}

impl RawSafeSearch {
    /// Returns the values, none of which needs a check.
    pub fn check(self) -> SafeSearchConfig {
        let RawSafeSearch { google, bing, youtube, duckduckgo } = self;
        SafeSearchConfig { google, bing, youtube, duckduckgo }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::minimal_with;

    #[test]
    fn engines_are_read() {
        assert_eq!(minimal_with("").safe_search, SafeSearchConfig::default());
        let some = minimal_with("[safe_search]\ngoogle = true\nyoutube = \"strict\"").safe_search;
        let expected =
            SafeSearchConfig { google: true, youtube: YouTubeFilter::Strict, ..SafeSearchConfig::default() };
        assert_eq!(some, expected);
        let others = minimal_with("[safe_search]\nbing = true\nduckduckgo = true").safe_search;
        assert_eq!((others.bing, others.duckduckgo, others.google), (true, true, false));
    }
}
