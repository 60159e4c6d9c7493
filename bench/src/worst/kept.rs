//! File of the worst candidates that searches have found, which the gate counts.

use super::{
    genome::Genome,
    scene::Class,
    search::{Found, Niche, Reach},
};
use crate::{instructions::shapes, output};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::{fs, path::Path};

/// Candidate in the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// Class of its packets.
    pub class: Class,
    /// Servers that it is for.
    pub reach: Reach,
    /// Candidate, as `ringbench worst --form` takes it.
    pub form: String,
}

impl Kept {
    /// Returns the name of the case that the gate counts.
    pub fn name(&self) -> String {
        name((self.class, self.reach))
    }

    /// Returns the goal of the design, in instructions a packet.
    pub fn goal(&self) -> f64 {
        goal(self.class)
    }
}

/// Returns the name of the worst candidate of a niche.
pub fn name((class, reach): Niche) -> String {
    let class = match class {
        Class::Hit => "hit",
        Class::Cookie => "cookie",
        Class::Refused => "refused",
    };
    match reach {
        Reach::Default => format!("worst-{class}"),
        Reach::Configured => format!("worst-{class}-configured"),
    }
}

/// Returns the most instructions that the design allows a packet of a class.
pub fn goal(class: Class) -> f64 {
    match class {
        Class::Hit => shapes::HIT,
        Class::Cookie => shapes::COOKIE,
        Class::Refused => shapes::REFUSED,
    }
}

/// Returns the candidates of the file.
pub fn read(path: &Path) -> Result<Vec<Kept>> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read {}: make it with `ringbench worst --write`", path.display()))?;
    let kept: Vec<Kept> = serde_json::from_str(&text).with_context(|| {
        format!("{} is no list of forms: make it with `ringbench worst --write`", path.display())
    })?;
    for one in &kept {
        one.form.parse::<Genome>().with_context(|| format!("{} in {}", one.name(), path.display()))?;
    }
    Ok(kept)
}

/// Writes the worst candidate of each niche.
pub fn write<'a>(path: &Path, worst: impl Iterator<Item = (Niche, &'a Found)>) -> Result<()> {
    let kept = worst.map(|((class, reach), found)| Kept { class, reach, form: found.genome.to_string() });
    let kept: Vec<Kept> = kept.collect();
    ensure!(!kept.is_empty(), "there is no candidate to write");
    output::json(Some(path), &kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{instructions::form::Form, worst::scene::Scene};

    #[test]
    fn candidates_are_written_and_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worst.json");
        let found = Found { cost: 7.0, genome: Genome::of(Form { tags: 1, ..Form::default() }) };
        write(&path, std::iter::once(((Class::Hit, Reach::Configured), &found))).unwrap();
        let kept = read(&path).unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!((kept[0].name().as_str(), kept[0].goal()), ("worst-hit-configured", 600.0));
        assert_eq!(kept[0].form.parse::<Genome>().unwrap(), found.genome);
        fs::write(&path, r#"[{"class":"hit","reach":"default","form":"{}"}]"#).unwrap();
        assert!(format!("{:#}", read(&path).unwrap_err()).contains("worst-hit"));
    }

    #[test]
    fn committed_candidates_are_of_their_classes() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("worst.json");
        for kept in read(&path).unwrap() {
            let genome: Genome = kept.form.parse().unwrap();
            assert_eq!(Scene::new(&genome).unwrap().class().unwrap(), Some(kept.class), "{}", kept.name());
            assert!(kept.reach == Reach::Configured || genome.site.is_default(), "{}", kept.name());
        }
    }
}
