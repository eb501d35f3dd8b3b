//! Receive buffers: lent to the kernel, held while bytes are in flight, given back.
//!
//! A worker has two pools. Small buffers serve the multishot receives of ordinary traffic: the kernel takes
//! one only when bytes have come, so an idle session owns none. Large buffers serve sessions in bulk, one at
//! a time each.
//!
//! Only as many buffers of a pool as its `level` are lent at a time; the rest wait on a stack, hottest on top,
//! so that a calm worker touches a few cache-warm pages however large the pool is. Memory that was never
//! needed is never touched. When the kernel has used up what was lent within one turn, the level doubles.
//!
//! Received buffers are linked into a [`Chain`]: the links live beside the buffers, so a queue of any length
//! needs no allocation.
//!
//! Bytes that another worker received, and those that found no buffer, are in no pool: they are *brought*, in memory of their
//! own, and linked like any other buffer. So a session that changes workers never waits for a buffer, and never takes one from
//! others.
//!
//! Invariant: a buffer is in exactly one place: on the stack, lent to the kernel, or in one chain.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use slab::Slab;

use super::memory::Mapping;
use super::ring::Ring;

/// Bytes of a small buffer: a page, which most requests and replies fit into.
pub const SMALL_BYTES: usize = 4096;
/// Bytes of a large buffer.
pub const LARGE_BYTES: usize = 32 * 1024;
/// Buffers of one pool: the kernel's limit for a ring of provided buffers.
const POOL_MAX: usize = 32768;
/// Buffers lent at first.
const SMALL_LEVEL: usize = 64;
const LARGE_LEVEL: usize = 4;

/// Large buffers have this bit, brought ones the next; [`NONE`] is no buffer and has all.
const LARGE_BIT: u32 = 1 << 31;
const BROUGHT_BIT: u32 = 1 << 30;
const NONE: u32 = u32::MAX;

/// Which pool; also the kernel's number of the buffer group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    Small = 0,
    Large = 1,
}

/// One buffer, by pool and number; a brought one by its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BufferId(u32);

impl BufferId {
    fn new(group: Group, number: u16) -> Self {
        match group {
            Group::Small => Self(u32::from(number)),
            Group::Large => Self(u32::from(number) | LARGE_BIT),
        }
    }

    fn group(self) -> Group {
        if self.0 & LARGE_BIT == 0 { Group::Small } else { Group::Large }
    }

    fn number(self) -> u16 {
        self.0 as u16
    }

    fn of_brought(key: usize) -> Self {
        // A key is below the number of pieces, and so many do not fit into memory.
        Self(key as u32 | BROUGHT_BIT)
    }

    /// Its key, if it was brought.
    #[inline]
    fn brought(self) -> Option<usize> {
        (self.0 & BROUGHT_BIT != 0).then_some((self.0 & !BROUGHT_BIT) as usize)
    }
}

/// Received bytes in the order they came: a list of buffers.
#[derive(Debug)]
#[must_use = "a chain that is dropped leaks its buffers: release it"]
pub(super) struct Chain {
    first: u32,
    last: u32,
    bytes: usize,
    buffers: usize,
}

impl Chain {
    pub const EMPTY: Self = Self { first: NONE, last: NONE, bytes: 0, buffers: 0 };

    pub fn is_empty(&self) -> bool {
        self.first == NONE
    }

    /// Bytes in all buffers together.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Buffers held. Each counts whole against its pool, however few bytes came in it.
    pub fn buffers(&self) -> usize {
        self.buffers
    }

    pub fn take(&mut self) -> Self {
        std::mem::replace(self, Self::EMPTY)
    }
}

/// What part of a buffer holds bytes, and which buffer comes behind it.
#[derive(Clone, Copy)]
struct Link {
    next: u32,
    start: u32,
    end: u32,
}

/// Bytes that another worker received, or that found no buffer.
struct Brought {
    bytes: Box<[u8]>,
    link: Link,
}

/// Both pools of a worker, and what was brought to it.
pub(super) struct Buffers {
    small: Pool,
    large: Pool,
    brought: Slab<Brought>,
}

impl Buffers {
    /// Pools that may together take `bytes` of memory.
    pub fn new(ring: &Ring, bytes: usize) -> io::Result<Self> {
        let count = |size: usize, least| (bytes / 2 / size).clamp(least, POOL_MAX);
        Ok(Self {
            small: Pool::new(ring, Group::Small, SMALL_BYTES, count(SMALL_BYTES, SMALL_LEVEL), SMALL_LEVEL)?,
            large: Pool::new(ring, Group::Large, LARGE_BYTES, count(LARGE_BYTES, LARGE_LEVEL), LARGE_LEVEL)?,
            brought: Slab::new(),
        })
    }

    fn pool(&mut self, group: Group) -> &mut Pool {
        match group {
            Group::Small => &mut self.small,
            Group::Large => &mut self.large,
        }
    }

    #[inline]
    fn link(&mut self, id: BufferId) -> &mut Link {
        match id.brought() {
            None => &mut self.pool(id.group()).links[usize::from(id.number())],
            Some(key) => &mut self.brought[key].link,
        }
    }

    /// The kernel filled a buffer of this group: appends it to `chain`.
    #[inline]
    pub fn received(&mut self, chain: &mut Chain, group: Group, number: u16, bytes: u32) {
        let id = BufferId::new(group, number);
        let pool = self.pool(group);
        pool.lent -= 1;
        pool.links[usize::from(number)] = Link { next: NONE, start: 0, end: bytes };
        self.append(chain, id, bytes);
    }

    /// Appends bytes to `chain` that are in no buffer.
    pub fn bring(&mut self, chain: &mut Chain, bytes: Box<[u8]>) {
        if bytes.is_empty() {
            return;
        }
        let end = bytes.len() as u32;
        let key = self.brought.insert(Brought { bytes, link: Link { next: NONE, start: 0, end } });
        self.append(chain, BufferId::of_brought(key), end);
    }

    #[inline]
    fn append(&mut self, chain: &mut Chain, id: BufferId, bytes: u32) {
        if chain.last == NONE {
            chain.first = id.0;
        } else {
            self.link(BufferId(chain.last)).next = id.0;
        }
        chain.last = id.0;
        chain.bytes += bytes as usize;
        chain.buffers += 1;
    }

    /// Lends buffers up to each pool's level.
    #[inline]
    pub fn lend(&mut self) {
        self.small.lend();
        self.large.lend();
    }

    /// The kernel found no buffer of this group: lends more at a time from now on, if that is what was short.
    pub fn exhausted(&mut self, group: Group) {
        let pool = self.pool(group);
        if pool.lent == 0 {
            pool.level = (pool.level * 2).min(pool.links.len());
        }
        pool.lend();
    }

    /// Whether the kernel has a buffer of this group to fill.
    pub fn has_lent(&self, group: Group) -> bool {
        match group {
            Group::Small => self.small.lent > 0,
            Group::Large => self.large.lent > 0,
        }
    }

    /// Whether less than half of the small buffers are left: time for each session to hold fewer.
    pub fn are_scarce(&self) -> bool {
        self.small.stack.len() + self.small.lent < self.small.links.len() / 2
    }

    /// The bytes at the front of a chain; empty for an empty chain.
    pub fn front(&self, chain: &Chain) -> &[u8] {
        match chain.first {
            NONE => &[],
            first => self.bytes(BufferId(first)),
        }
    }

    /// Shows each buffer's bytes to `f`, front to back.
    #[inline]
    pub fn each(&self, chain: &Chain, mut f: impl FnMut(&[u8])) {
        let mut at = chain.first;
        while at != NONE {
            let id = BufferId(at);
            f(self.bytes(id));
            at = self.link_of(id).next;
        }
    }

    /// Collects addresses and lengths of the first buffers of a chain, up to `wanted` bytes; returns how many.
    pub fn gather(&self, chain: &Chain, mut wanted: usize, into: &mut [libc::iovec]) -> usize {
        let (mut count, mut at) = (0, chain.first);
        while at != NONE && count < into.len() && wanted > 0 {
            let bytes = self.bytes(BufferId(at));
            let length = bytes.len().min(wanted);
            into[count] = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: length };
            wanted -= length;
            count += 1;
            at = self.link_of(BufferId(at)).next;
        }
        count
    }

    /// Overwrites bytes of a chain, from the one at `at` on.
    pub fn overwrite(&mut self, chain: &Chain, mut at: usize, mut bytes: &[u8]) {
        debug_assert!(at + bytes.len() <= chain.bytes);
        let mut buffer = chain.first;
        while buffer != NONE && !bytes.is_empty() {
            let id = BufferId(buffer);
            let link = self.link_of(id);
            let here = (link.end - link.start) as usize;
            if at < here {
                let (now, later) = bytes.split_at(bytes.len().min(here - at));
                self.bytes_mut(id, link)[at..at + now.len()].copy_from_slice(now);
                bytes = later;
            }
            at = at.saturating_sub(here);
            buffer = link.next;
        }
    }

    /// Puts a chain in front of another.
    pub fn prepend(&mut self, mut front: Chain, chain: &mut Chain) {
        if front.is_empty() {
            return;
        }
        if !chain.is_empty() {
            self.link(BufferId(front.last)).next = chain.first;
            front.last = chain.last;
            front.bytes += chain.bytes;
            front.buffers += chain.buffers;
        }
        *chain = front;
    }

    /// Drops `n` bytes at the front of a chain and takes back the buffers that this empties.
    #[inline]
    pub fn consume(&mut self, chain: &mut Chain, mut n: usize) {
        debug_assert!(n <= chain.bytes);
        chain.bytes -= n;
        while chain.first != NONE {
            let id = BufferId(chain.first);
            let link = self.link(id);
            let here = (link.end - link.start) as usize;
            if n < here {
                link.start += n as u32;
                return;
            }
            n -= here;
            chain.first = link.next;
            chain.buffers -= 1;
            self.take_back(id);
        }
        chain.last = NONE;
    }

    #[inline]
    fn take_back(&mut self, id: BufferId) {
        match id.brought() {
            None => self.pool(id.group()).stack.push(id.number()),
            Some(key) => _ = self.brought.remove(key),
        }
    }

    /// Takes back all buffers of a chain.
    pub fn release(&mut self, mut chain: Chain) {
        let bytes = chain.bytes;
        self.consume(&mut chain, bytes);
    }

    #[inline]
    fn link_of(&self, id: BufferId) -> Link {
        match (id.brought(), id.group()) {
            (None, Group::Small) => self.small.links[usize::from(id.number())],
            (None, Group::Large) => self.large.links[usize::from(id.number())],
            (Some(key), _) => self.brought[key].link,
        }
    }

    #[inline]
    fn bytes(&self, id: BufferId) -> &[u8] {
        let link = self.link_of(id);
        match (id.brought(), id.group()) {
            (None, Group::Small) => self.small.bytes(id.number(), link),
            (None, Group::Large) => self.large.bytes(id.number(), link),
            (Some(key), _) => &self.brought[key].bytes[link.start as usize..link.end as usize],
        }
    }

    fn bytes_mut(&mut self, id: BufferId, link: Link) -> &mut [u8] {
        match id.brought() {
            None => self.pool(id.group()).bytes_mut(id.number(), link),
            Some(key) => &mut self.brought[key].bytes[link.start as usize..link.end as usize],
        }
    }
}

/// Buffers of one size and the ring by which they are lent.
struct Pool {
    size: usize,
    memory: Mapping,
    entries: Mapping,
    /// Entries of the lending ring less one; their number is a power of two.
    mask: u16,
    tail: u16,
    links: Box<[Link]>,
    stack: Vec<u16>,
    lent: usize,
    level: usize,
}

impl Pool {
    fn new(ring: &Ring, group: Group, size: usize, count: usize, level: usize) -> io::Result<Self> {
        let slots = count.next_power_of_two();
        let memory = Mapping::new(size * count)?;
        let entries = Mapping::new(slots * size_of::<BufRingEntry>())?;
        // SAFETY: `entries` has room for `slots` entries, is page-aligned and is unmapped only after the
        // ring is closed, as the reactor drops its ring before its buffers.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                entries.start().as_ptr() as u64,
                slots as u16,
                group as u16,
                0,
            )?;
        }
        Ok(Self {
            size,
            memory,
            entries,
            mask: (slots - 1) as u16,
            tail: 0,
            links: vec![Link { next: NONE, start: 0, end: 0 }; count].into(),
            stack: (0..count as u16).rev().collect(),
            lent: 0,
            level: level.min(count),
        })
    }

    fn at(&self, number: u16) -> NonNull<u8> {
        // SAFETY: numbers come from the stack, hence are below the count that `memory` was made for.
        unsafe { self.memory.start().add(usize::from(number) * self.size) }
    }

    fn bytes(&self, number: u16, link: Link) -> &[u8] {
        // SAFETY: the buffer is in a chain, so the kernel does not write it; it wrote `start..end` before.
        unsafe {
            std::slice::from_raw_parts(
                self.at(number).as_ptr().add(link.start as usize),
                (link.end - link.start) as usize,
            )
        }
    }

    fn bytes_mut(&mut self, number: u16, link: Link) -> &mut [u8] {
        // SAFETY: the buffer is in a chain that waits unread, so nobody else refers to it: the kernel neither
        // writes nor sends it.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.at(number).as_ptr().add(link.start as usize),
                (link.end - link.start) as usize,
            )
        }
    }

    #[inline]
    fn lend(&mut self) {
        if self.lent >= self.level {
            return;
        }
        while self.lent < self.level {
            let Some(number) = self.stack.pop() else { break };
            let address = self.at(number).as_ptr() as u64;
            let slot = usize::from(self.tail & self.mask);
            // SAFETY: the slot is inside the mapping; the kernel reads it only once the tail is published.
            let entry = unsafe { &mut *self.entries.start().cast::<BufRingEntry>().as_ptr().add(slot) };
            entry.set_addr(address);
            entry.set_len(self.size as u32);
            entry.set_bid(number);
            self.tail = self.tail.wrapping_add(1);
            self.lent += 1;
        }
        // SAFETY: the tail lies inside the first entry, which is mapped and aligned for a u16; it is shared
        // with the kernel, hence the atomic store.
        let tail = unsafe { &*BufRingEntry::tail(self.entries.start().cast().as_ptr()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}
