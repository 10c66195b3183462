//! What a session is made of: buffers of mixed sizes, the same ones in each run. Not inlined, so that each function
//! is a site of its own in a report.

/// An open session.
pub struct Session {
    headers: Vec<Box<[u8]>>,
    body: Box<[u8]>,
    history: Vec<Box<[u8]>>,
}

impl Session {
    /// The bytes in its buffers.
    pub fn bytes(&self) -> u64 {
        let lists = self.headers.iter().chain(&self.history).map(|buffer| buffer.len() as u64);
        lists.sum::<u64>() + self.body.len() as u64
    }
}

/// What the service remembers of a visitor.
pub struct Visit {
    _id: u64,
    _name: [u8; 72],
}

/// Builds a session from its id alone.
#[inline(never)]
pub fn open_session(id: u64) -> Session {
    let mut sizes = Sizes(id.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    Session { headers: read_headers(&mut sizes), body: read_body(&mut sizes), history: load_history(&mut sizes) }
}

/// A small object that outlives its session.
#[inline(never)]
pub fn remember_visit(id: u64) -> Box<Visit> {
    Box::new(Visit { _id: id, _name: [b'v'; 72] })
}

#[inline(never)]
fn read_headers(sizes: &mut Sizes) -> Vec<Box<[u8]>> {
    (0..8).map(|_| sizes.buffer(24, 120)).collect()
}

#[inline(never)]
fn read_body(sizes: &mut Sizes) -> Box<[u8]> {
    sizes.buffer(200, 3000)
}

#[inline(never)]
fn load_history(sizes: &mut Sizes) -> Vec<Box<[u8]>> {
    (0..4).map(|_| sizes.buffer(100, 600)).collect()
}

/// Sizes that look random and are not (xorshift).
struct Sizes(u64);

impl Sizes {
    fn buffer(&mut self, bytes_min: u64, bytes_max: u64) -> Box<[u8]> {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let bytes = bytes_min + self.0 % (bytes_max - bytes_min);
        // Not zero, so that every page is really written.
        vec![0x5a; bytes as usize].into_boxed_slice()
    }
}
