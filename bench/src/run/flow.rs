//! A connected socket and its queries in flight.

use crate::{
    check::{self, Reply, Wrong},
    mix::Pick,
    mmsg::Sender,
    names::Questions,
    query::Template,
    question::QUESTION_MAX,
};
use anyhow::{Context, Result};
use rustix::net::sockopt;
use std::net::{SocketAddr, UdpSocket};

/// A query: what is sent, and what its answer is held against.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// What it asks.
    pub pick: Pick,
    /// When it should be sent, in nanoseconds of the run.
    pub due: u64,
    /// Which random name it asks, if it asks one.
    pub number: u64,
    /// The case of its letters, if that is mixed.
    pub spelling: u64,
}

impl Query {
    /// The question, in `buffer`, spelled plainly.
    fn question<'b>(
        &self,
        questions: &Questions,
        template: &Template,
        buffer: &'b mut [u8; QUESTION_MAX],
    ) -> &'b mut [u8] {
        let len = match self.pick {
            Pick::Name(name) => {
                let question = questions.get(name);
                buffer[..question.len()].copy_from_slice(question);
                question.len()
            }
            Pick::Random => template.random_question(self.number, buffer),
        };
        &mut buffer[..len]
    }
}

/// A response, looked at.
#[derive(Debug)]
pub enum Response {
    /// It answers this query.
    Answer(Query, Reply),
    /// It has the ID of a query in flight, but does not answer it.
    Wrong(Wrong),
    /// No query with its ID is in flight.
    Unexpected,
}

/// A socket of its own port, with IDs given out in order, so that the oldest query is found at once.
pub struct Flow {
    socket: UdpSocket,
    slots: Box<[Option<Query>]>,
    /// The ID of the next query.
    next: u16,
    /// No query with an ID before this one is in flight.
    oldest: u16,
    in_flight: usize,
}

impl Flow {
    /// A flow to `target`.
    pub fn connect(target: SocketAddr) -> Result<Self> {
        let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).context("cannot open a UDP socket")?;
        socket.connect(target).with_context(|| format!("no route to {target}: is it the right address?"))?;
        // Answers wait here while queries are being sent; the kernel cuts this to what it permits.
        sockopt::set_socket_recv_buffer_size(&socket, 4 << 20)?;
        Ok(Flow { socket, slots: vec![None; 1 << 16].into(), next: 0, oldest: 0, in_flight: 0 })
    }

    /// The socket.
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// How many queries are in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How many more queries there are IDs for.
    pub fn room(&self) -> usize {
        usize::from(u16::MAX - self.next.wrapping_sub(self.oldest))
    }

    /// Writes the query number `nth` after those in flight into `sender`. It is in flight only when
    /// [`launched`](Flow::launched).
    pub fn prepare(
        &mut self,
        nth: usize,
        query: Query,
        questions: &Questions,
        template: &Template,
        sender: &mut Sender,
    ) {
        let id = self.next.wrapping_add(nth as u16);
        let mut buffer = [0; QUESTION_MAX];
        let question = query.question(questions, template, &mut buffer);
        sender.push(None, |message| template.write(message, id, question, query.spelling));
        self.slots[usize::from(id)] = Some(query);
    }

    /// Of `prepared` queries the first `launched` were sent; the others are forgotten.
    pub fn launched(&mut self, prepared: usize, launched: usize) -> impl Iterator<Item = Query> + '_ {
        let first = self.next;
        for nth in launched..prepared {
            self.slots[usize::from(first.wrapping_add(nth as u16))] = None;
        }
        self.next = first.wrapping_add(launched as u16);
        self.in_flight += launched;
        (0..launched).filter_map(move |nth| self.slots[usize::from(first.wrapping_add(nth as u16))])
    }

    /// Looks at a response, and ends its query if it answers one.
    pub fn response(
        &mut self,
        message: &[u8],
        questions: &Questions,
        template: &Template,
        data: bool,
    ) -> Response {
        let Some(id) = check::response_id(message) else { return Response::Wrong(Wrong::Malformed) };
        let Some(query) = self.slots[usize::from(id)] else { return Response::Unexpected };
        let mut buffer = [0; QUESTION_MAX];
        let question = query.question(questions, template, &mut buffer);
        template.spell(question, query.spelling);
        match check::check(message, question, data) {
            Ok(reply) => {
                self.slots[usize::from(id)] = None;
                self.in_flight -= 1;
                self.advance();
                Response::Answer(query, reply)
            }
            Err(wrong) => Response::Wrong(wrong),
        }
    }

    /// Takes the oldest query if it was due before `deadline`: too long ago.
    pub fn expire(&mut self, deadline: u64) -> Option<Query> {
        let query = self.slots[usize::from(self.oldest)].filter(|query| query.due < deadline)?;
        self.slots[usize::from(self.oldest)] = None;
        self.in_flight -= 1;
        self.advance();
        Some(query)
    }

    fn advance(&mut self) {
        while self.oldest != self.next && self.slots[usize::from(self.oldest)].is_none() {
            self.oldest = self.oldest.wrapping_add(1);
        }
    }
}
