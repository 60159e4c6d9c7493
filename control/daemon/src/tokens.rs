//! Tokens of the API that are in effect.

use arc_swap::ArcSwap;
use ring::digest::{SHA256, digest};
use ringdns_api::Role;
use ringdns_config::{ControlConfig, Problem, tokens, tokens::Token};
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// Tokens in effect.
#[derive(Debug, Default)]
pub struct Tokens(ArcSwap<Vec<Token>>);

impl Tokens {
    /// Reads the tokens of a configuration.
    pub fn read(control: &ControlConfig) -> Result<Vec<Token>, Problem> {
        control.tokens_file.as_deref().map_or(Ok(Vec::new()), tokens::read)
    }

    /// Replaces all tokens.
    pub fn set(&self, tokens: Vec<Token>) {
        self.0.store(Arc::new(tokens));
    }

    /// Returns name and role of a token. The time that it takes tells nothing of the tokens but
    /// their number.
    pub fn find(&self, token: &[u8]) -> Option<(Arc<str>, Role)> {
        let hash = digest(&SHA256, token);
        let tokens = self.0.load();
        let mut found = None;
        for known in tokens.iter() {
            if bool::from(known.hash.ct_eq(hash.as_ref())) {
                found = Some(known);
            }
        }
        found.map(|known| (known.name.as_str().into(), known.role))
    }
}
