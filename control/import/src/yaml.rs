//! YAML files as trees with lines, within bounds: hostile files are deep, or multiply by aliases.

use crate::ImportError;
use saphyr_parser::{Event, Marker, Parser};
use std::{collections::HashMap, rc::Rc};

/// Deepest nesting.
const DEPTH_MAX: usize = 64;

/// Most values, those of each alias counted anew.
const NODES_MAX: usize = 500_000;

/// Value of a YAML file.
#[derive(Debug)]
pub struct Node {
    /// Line, from 1.
    pub line: usize,
    /// Content.
    pub content: Content,
    /// Number of values, this one among them.
    size: usize,
}

/// Content of a value.
#[derive(Debug)]
pub enum Content {
    /// Text, number, truth or nothing, as written.
    Scalar(String),
    /// List.
    List(Vec<Rc<Node>>),
    /// Table, in the order of the file: key, its line, value.
    Table(Vec<(String, usize, Rc<Node>)>),
}

impl Node {
    /// Returns the text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(text) => Some(text),
            _ => None,
        }
    }

    /// Whether it is nothing, as after a key without a value.
    pub fn is_empty(&self) -> bool {
        match &self.content {
            Content::Scalar(text) => matches!(text.as_str(), "" | "~" | "null"),
            Content::List(list) => list.is_empty(),
            Content::Table(table) => table.is_empty(),
        }
    }

    /// Returns the elements of a list; of anything else, itself.
    pub fn elements(&self) -> Vec<&Node> {
        match &self.content {
            Content::List(list) => list.iter().map(Rc::as_ref).collect(),
            _ if self.is_empty() => Vec::new(),
            _ => vec![self],
        }
    }

    /// Returns the keys and values of a table, with the lines of the keys.
    pub fn entries(&self) -> impl Iterator<Item = (&str, usize, &Node)> {
        let table = match &self.content {
            Content::Table(table) => &table[..],
            _ => &[],
        };
        table.iter().map(|(key, line, value)| (key.as_str(), *line, value.as_ref()))
    }

    /// Returns the value of a key.
    pub fn get(&self, wanted: &str) -> Option<&Node> {
        self.entries().find(|(key, _, _)| *key == wanted).map(|(_, _, value)| value)
    }

    /// Returns the text of a key's value.
    pub fn text_of(&self, key: &str) -> Option<&str> {
        self.get(key)?.text()
    }
}

/// Numbers of lines as `\n` ends them, by the lines of YAML, which a lone `\r` ends too (YAML 1.2.2,
/// section 5.4).
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Lines {
        let (mut lines, mut line) = (vec![1], 1);
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            line += usize::from(character == '\n');
            if character == '\n' || character == '\r' && characters.peek() != Some(&'\n') {
                lines.push(line);
            }
        }
        Lines(lines)
    }

    /// Returns the line of a place. The parser sets the end of a file on a line of its own.
    fn at(&self, place: &Marker) -> usize {
        let last = self.0.len() - 1;
        self.0[place.line().saturating_sub(1).min(last)]
    }
}

/// List or table whose end has not come.
struct Open {
    line: usize,
    anchor: usize,
    is_table: bool,
    nodes: Vec<Rc<Node>>,
}

impl Open {
    fn close(self) -> Node {
        let size = 1 + self.nodes.iter().map(|node| node.size).sum::<usize>();
        let content = if self.is_table {
            let mut nodes = self.nodes.into_iter();
            let mut table = Vec::new();
            while let (Some(key), Some(value)) = (nodes.next(), nodes.next()) {
                table.push((key.text().unwrap_or_default().to_owned(), key.line, value));
            }
            Content::Table(table)
        } else {
            Content::List(self.nodes)
        };
        Node { line: self.line, content, size }
    }
}

/// Reads the first document of a file.
pub fn parse(text: &str) -> Result<Rc<Node>, ImportError> {
    let mut open: Vec<Open> = Vec::new();
    let (mut anchors, mut total) = (HashMap::<usize, Rc<Node>>::new(), 0_usize);
    let lines = Lines::of(text);
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let reason = error.info().to_owned();
            ImportError::Yaml { line: lines.at(error.marker()), reason }
        })?;
        let line = lines.at(&span.start);
        let refused = |reason: &str| ImportError::Yaml { line, reason: reason.to_owned() };
        let (node, anchor) = match event {
            Event::Scalar(text, _, anchor, _) => {
                (Rc::new(Node { line, content: Content::Scalar(text.into_owned()), size: 1 }), anchor)
            }
            Event::Alias(anchor) => {
                let node = anchors.get(&anchor).ok_or_else(|| refused("an alias has no anchor before it"))?;
                (node.clone(), 0)
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() >= DEPTH_MAX => {
                return Err(refused("values are nested too deeply"));
            }
            Event::SequenceStart(anchor, _) => {
                open.push(Open { line, anchor, is_table: false, nodes: Vec::new() });
                continue;
            }
            Event::MappingStart(anchor, _) => {
                open.push(Open { line, anchor, is_table: true, nodes: Vec::new() });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(closed) = open.pop() else { continue };
                let anchor = closed.anchor;
                (Rc::new(closed.close()), anchor)
            }
            Event::DocumentEnd | Event::StreamEnd => break,
            _ => continue,
        };
        total += if matches!(node.content, Content::Scalar(_)) { 1 } else { node.size };
        if total > NODES_MAX {
            return Err(refused("there are too many values"));
        }
        if anchor > 0 {
            anchors.insert(anchor, node.clone());
        }
        match open.last_mut() {
            Some(above) => above.nodes.push(node),
            None => return Ok(node),
        }
    }
    Err(ImportError::Yaml { line: 1, reason: "there is nothing in the file".to_owned() })
}
