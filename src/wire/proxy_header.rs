//! The header by which a proxy tells a server of its client, before the first byte of the client's: the PROXY protocol, versions
//! 1 and 2.
//!
//! The source is HAProxy's specification, `doc/proxy-protocol.txt`, of 2020-03-05. Version 1 is a line, version 2 binary:
//!
//! ```text
//!   PROXY TCP4 203.0.113.7 10.0.0.1 51234 6009 CR LF        or TCP6, or UNKNOWN and anything
//!
//!  12  signature
//!   1  version 2 in the high half; 0 LOCAL, 1 PROXY in the low one
//!   1  family in the high half: none, IPv4, IPv6, Unix; in the low one: none, stream, datagram
//!   2  length of what follows, big-endian
//!      source and destination address, source and destination port, then TLVs: type, 2 of length, value
//! ```
//!
//! [`read`] looks at what has come so far and says how many bytes are missing for certain, so whoever reads no more than that never
//! takes one that lies behind the header. What can be no header is an error at its first wrong byte, and none is longer than
//! [`HEADER_MAX`].
//!
//! TLVs are skipped, but each must end within the header, and a checksum among them must be right. A LOCAL header, and one without a
//! family, may carry what it likes: the specification wants it ignored.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What a header of version 2 begins with.
pub const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// What one of version 1 begins with.
pub const V1_START: &[u8; 6] = b"PROXY ";
/// Bytes of the longest line of version 1, with its end.
pub const V1_MAX: usize = 107;
/// Bytes of the longest header that is read. HAProxy takes one of 16 KiB, MariaDB one of 256 bytes; with every TLV that there is one
/// has some hundred, if no certificate is among them.
pub const HEADER_MAX: usize = 4096;

/// The shortest line there is: `PROXY UNKNOWN` and its end.
const V1_MIN: usize = 15;
/// Signature, version, family and length.
const V2_HEAD: usize = 16;
/// Address and port of either end.
const INET: usize = 12;
const INET6: usize = 36;
/// Two paths.
const UNIX: usize = 216;
/// The type of the TLV with the checksum of the whole header.
const CRC32C: u8 = 0x03;

/// How far a header has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// At least so many further bytes belong to it.
    Lacks(usize),
    Whole {
        /// Bytes that it takes.
        length: usize,
        /// None where it is the connection's own addresses that hold.
        ends: Option<Ends>,
    },
}

/// The two ends of a client's connection to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

/// Why bytes are no header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("it begins with something else")]
    Missing,
    #[error("a line of more than {V1_MAX} bytes")]
    LongLine,
    #[error("a line that does not end with CR LF")]
    LineEnd,
    #[error("a line with a protocol other than TCP4, TCP6 and UNKNOWN")]
    Protocol,
    #[error("a line without two addresses and two ports behind its protocol, with one space before each")]
    Fields,
    #[error("a line with a bad {0}")]
    Field(&'static str),
    #[error("version {0}, where 1 and 2 are known")]
    Version(u8),
    #[error("command {0}, where 0 and 1 are known")]
    Command(u8),
    #[error("address family and transport {0:#04x}, which are not known")]
    Family(u8),
    #[error("{0} bytes, more than {HEADER_MAX}")]
    TooLong(usize),
    #[error("{found} bytes for addresses that take {needed}")]
    ShortAddresses { found: usize, needed: usize },
    #[error("a TLV that goes beyond its end")]
    BrokenTlv,
    #[error("a wrong checksum")]
    Checksum,
}

/// Whether what should be a packet of MySQL's begins with these four bytes, but is a header: no packet of a login has their length.
pub fn is_start(head: [u8; 4]) -> bool {
    V1_START.starts_with(&head) || SIGNATURE.starts_with(&head)
}

/// Reads the header that `bytes` begin with, as far as they go.
///
/// # Errors
/// There can be no header, whatever may follow.
pub fn read(bytes: &[u8]) -> Result<Progress, HeaderError> {
    if begins(bytes, V1_START) {
        read_line(bytes)
    } else if begins(bytes, SIGNATURE) {
        read_binary(bytes)
    } else {
        Err(HeaderError::Missing)
    }
}

/// Appends a header of version 2: PROXY with these ends, or LOCAL. One that is an IPv4 address in IPv6's clothes is told as that; of
/// ends of two families the destination is told as nowhere, as the source matters.
pub fn write(out: &mut Vec<u8>, ends: Option<Ends>) {
    out.extend_from_slice(SIGNATURE);
    let Some(Ends { source, destination }) = ends else {
        return out.extend_from_slice(&[0x20, 0, 0, 0]);
    };
    match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(from), to) => {
            let to = if let IpAddr::V4(to) = to { to } else { Ipv4Addr::UNSPECIFIED };
            out.extend_from_slice(&[0x21, 0x11, 0, INET as u8]);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
        (IpAddr::V6(from), to) => {
            let to = if let IpAddr::V6(to) = to { to } else { Ipv6Addr::UNSPECIFIED };
            out.extend_from_slice(&[0x21, 0x21, 0, INET6 as u8]);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
}

/// Whether `bytes` are as `start` is, as far as both go.
fn begins(bytes: &[u8], start: &[u8]) -> bool {
    let common = bytes.len().min(start.len());
    bytes[..common] == start[..common]
}

fn read_line(bytes: &[u8]) -> Result<Progress, HeaderError> {
    let within = &bytes[..bytes.len().min(V1_MAX)];
    let Some(end) = within.iter().position(|byte| *byte == b'\n') else {
        return match within.len() {
            V1_MAX => Err(HeaderError::LongLine),
            few if few < V1_MIN => Ok(Progress::Lacks(V1_MIN - few)),
            _ => Ok(Progress::Lacks(if within.ends_with(b"\r") { 1 } else { 2 }.min(V1_MAX - within.len()))),
        };
    };
    let line = within[..end].strip_suffix(b"\r").ok_or(HeaderError::LineEnd)?;
    Ok(Progress::Whole { length: end + 1, ends: line_ends(line)? })
}

/// The ends that a line tells, which is here without its own.
fn line_ends(line: &[u8]) -> Result<Option<Ends>, HeaderError> {
    // A line that ends before its first space does not reach its protocol.
    let rest = line.strip_prefix(V1_START).ok_or(HeaderError::Protocol)?;
    if rest == b"UNKNOWN" || rest.starts_with(b"UNKNOWN ") {
        return Ok(None);
    }
    let text = str::from_utf8(rest).map_err(|_| HeaderError::Fields)?;
    let mut fields = text.split(' ');
    let protocol = fields.next().unwrap_or_default();
    let address: fn(&str) -> Option<IpAddr> = match protocol {
        "TCP4" => |text| text.parse().ok().map(IpAddr::V4),
        "TCP6" => |text| text.parse().ok().map(IpAddr::V6),
        _ => return Err(HeaderError::Protocol),
    };
    let [Some(from), Some(to), Some(from_port), Some(to_port), None] = [(); 5].map(|()| fields.next()) else {
        return Err(HeaderError::Fields);
    };
    let read = |text, what| address(text).ok_or(HeaderError::Field(what));
    let (from, to) = (read(from, "source address")?, read(to, "destination address")?);
    let source = SocketAddr::new(from, port(from_port).ok_or(HeaderError::Field("source port"))?);
    let destination = SocketAddr::new(to, port(to_port).ok_or(HeaderError::Field("destination port"))?);
    Ok(Some(Ends { source, destination }))
}

/// Digits without a sign, and without a zero before others.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

fn read_binary(bytes: &[u8]) -> Result<Progress, HeaderError> {
    if let Some(&command) = bytes.get(12) {
        match (command >> 4, command & 0x0f) {
            (2, 0 | 1) => {}
            (2, other) => return Err(HeaderError::Command(other)),
            (other, _) => return Err(HeaderError::Version(other)),
        }
    }
    let Some((head, _)) = bytes.split_first_chunk::<V2_HEAD>() else {
        return Ok(Progress::Lacks(V2_HEAD - bytes.len()));
    };
    let length = V2_HEAD + usize::from(u16::from_be_bytes([head[14], head[15]]));
    if length > HEADER_MAX {
        return Err(HeaderError::TooLong(length));
    }
    match bytes.get(..length) {
        None => Ok(Progress::Lacks(length - bytes.len())),
        Some(_) if head[12] & 0x0f == 0 => Ok(Progress::Whole { length, ends: None }),
        Some(whole) => Ok(Progress::Whole { length, ends: binary_ends(whole)? }),
    }
}

/// The ends that a whole header of version 2 tells, which is none of LOCAL.
fn binary_ends(header: &[u8]) -> Result<Option<Ends>, HeaderError> {
    let (family, body) = (header[13], &header[V2_HEAD..]);
    let needed = match (family >> 4, family & 0x0f) {
        (0, 0..=2) => return Ok(None),
        (1, 0..=2) => INET,
        (2, 0..=2) => INET6,
        (3, 0..=2) => UNIX,
        _ => return Err(HeaderError::Family(family)),
    };
    let short = HeaderError::ShortAddresses { found: body.len(), needed };
    let addresses = body.get(..needed).ok_or(short)?;
    check_tlvs(header, V2_HEAD + needed)?;
    Ok(match family {
        0x11 => {
            let ip = |at: usize| Ipv4Addr::from(octets::<4>(addresses, at));
            Some(ends(ip(0).into(), ip(4).into(), addresses))
        }
        0x21 => {
            let ip = |at: usize| Ipv6Addr::from(octets::<16>(addresses, at));
            Some(ends(ip(0).into(), ip(16).into(), addresses))
        }
        // A client on a Unix socket of the proxy's; and datagrams, which are none of ours.
        _ => None,
    })
}

/// With the ports that `addresses` end with.
fn ends(source: IpAddr, destination: IpAddr, addresses: &[u8]) -> Ends {
    let port = |from_end: usize| u16::from_be_bytes(octets(addresses, addresses.len() - from_end));
    Ends { source: SocketAddr::new(source, port(4)), destination: SocketAddr::new(destination, port(2)) }
}

fn octets<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|nth| bytes[at + nth])
}

/// Walks over the TLVs, which begin at `at`.
fn check_tlvs(header: &[u8], mut at: usize) -> Result<(), HeaderError> {
    while at < header.len() {
        let head = header.get(at..at + 3).ok_or(HeaderError::BrokenTlv)?;
        let value = at + 3..at + 3 + usize::from(u16::from_be_bytes([head[1], head[2]]));
        let told = header.get(value.clone()).ok_or(HeaderError::BrokenTlv)?;
        if head[0] == CRC32C {
            let told = <[u8; 4]>::try_from(told).map_err(|_| HeaderError::Checksum)?;
            // It is that of the header with zeros in its place.
            let bytes = [&header[..value.start], &[0; 4], &header[value.end..]];
            if crc32c(bytes.into_iter().flatten()) != u32::from_be_bytes(told) {
                return Err(HeaderError::Checksum);
            }
        }
        at = value.end;
    }
    Ok(())
}

/// CRC-32C (RFC 4960, appendix B), bit by bit: it is for one header of a session.
fn crc32c<'b>(bytes: impl Iterator<Item = &'b u8>) -> u32 {
    !bytes.fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINE: &[u8] = b"PROXY TCP4 203.0.113.7 10.0.0.1 51234 6009\r\n";

    fn told(source: &str, destination: &str) -> Option<Ends> {
        Some(Ends { source: source.parse().unwrap(), destination: destination.parse().unwrap() })
    }

    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body].concat()
    }

    fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
        [&[kind][..], &u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
    }

    const V4: &[u8] = &[203, 0, 113, 7, 10, 0, 0, 1, 0xc8, 0x22, 0x17, 0x79];

    fn whole(bytes: &[u8]) -> Option<Ends> {
        match read(bytes) {
            Ok(Progress::Whole { length, ends }) if length == bytes.len() => ends,
            other => panic!("{}: {other:?}", bytes.escape_ascii()),
        }
    }

    fn error(bytes: &[u8]) -> HeaderError {
        read(bytes).expect_err(&bytes.escape_ascii().to_string())
    }

    /// Reads a header as one does that takes no more than is missing, in pieces of at most `piece` bytes.
    fn in_pieces(bytes: &[u8], piece: usize) -> Result<(usize, Option<Ends>), HeaderError> {
        let mut have = 0;
        loop {
            match read(&bytes[..have])? {
                Progress::Lacks(0) => panic!("nothing is missing, and it is not whole"),
                Progress::Lacks(_) if have == bytes.len() => return Err(HeaderError::Missing),
                Progress::Lacks(lacks) => have += lacks.min(piece).min(bytes.len() - have),
                Progress::Whole { length, ends } => return Ok((length, ends)),
            }
        }
    }

    #[test]
    fn lines_of_version_1() {
        let ends = told("203.0.113.7:51234", "10.0.0.1:6009");
        assert_eq!(whole(LINE), ends);
        let six = b"PROXY TCP6 2001:db8::7 ::1 0 65535\r\n";
        assert_eq!(whole(six), told("[2001:db8::7]:0", "[::1]:65535"));
        for unknown in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff:: 1 2 \x01 x\r\n", "PROXY UNKNOWN TCP4\r\n"]
        {
            assert_eq!(whole(unknown.as_bytes()), None);
        }
        let longest = "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
            ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        assert_eq!(longest.len(), V1_MAX);
        assert_eq!(whole(longest.as_bytes()), None);
        assert_eq!(whole(longest.replace("UNKNOWN", "TCP6").as_bytes()).unwrap().source.port(), 65535);
    }

    #[test]
    fn wrong_lines_of_version_1() {
        use HeaderError::*;
        for (line, expected) in [
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", LineEnd),
            ("PROXY \n", LineEnd),
            ("PROXY \r\n", Protocol),
            ("PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n", Protocol),
            ("PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n", Protocol),
            ("PROXY UNKNOWNS\r\n", Protocol),
            ("PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n", Protocol),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", Fields),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n", Fields),
            ("PROXY TCP4 1.2.3.4 1.2.3.4  1 2\r\n", Fields),
            ("PROXY TCP4\r\n", Fields),
            ("PROXY TCP4  1.2.3.4 1 2\r\n", Field("source address")),
            ("PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n", Field("source address")),
            ("PROXY TCP4 1.2.3.04 1.2.3.4 1 2\r\n", Field("source address")),
            ("PROXY TCP4 ::1 1.2.3.4 1 2\r\n", Field("source address")),
            ("PROXY TCP6 ::1 1.2.3.4 1 2\r\n", Field("destination address")),
            ("PROXY TCP6 fe80::1%lo ::1 1 2\r\n", Field("source address")),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", Field("source port")),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n", Field("source port")),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", Field("destination port")),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\r\n", Field("destination port")),
        ] {
            assert_eq!(error(line.as_bytes()), expected, "{line:?}");
        }
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_MAX - V1_MIN));
        assert_eq!(error(long.as_bytes()), LongLine);
        assert_eq!(error(&long.as_bytes()[..V1_MAX]), LongLine, "it is known before its end");
    }

    #[test]
    fn headers_of_version_2() {
        assert_eq!(whole(&binary(0x21, 0x11, V4)), told("203.0.113.7:51234", "10.0.0.1:6009"));
        let v6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[7], &[0; 15], &[1], &[0, 1, 0, 2]].concat();
        assert_eq!(whole(&binary(0x21, 0x21, &v6)), told("[2001:db8::7]:1", "[::1]:2"));
        for own in [
            binary(0x20, 0, b""),
            binary(0x20, 0xff, b"anything"),
            binary(0x21, 0, b""),
            binary(0x21, 0, b"anything"),
            binary(0x21, 0x31, &[b'x'; UNIX]),
            binary(0x21, 0x12, V4),
        ] {
            assert_eq!(whole(&own), None, "{}", own.escape_ascii());
        }
    }

    #[test]
    fn wrong_headers_of_version_2() {
        use HeaderError::*;
        for (bytes, expected) in [
            (binary(0x11, 0x11, V4), Version(1)),
            (binary(0x22, 0x11, V4), Command(2)),
            (binary(0x21, 0x41, V4), Family(0x41)),
            (binary(0x21, 0x13, V4), Family(0x13)),
            (binary(0x21, 0x11, &V4[1..]), ShortAddresses { found: 11, needed: INET }),
            (binary(0x21, 0x21, V4), ShortAddresses { found: 12, needed: INET6 }),
            (binary(0x21, 0x31, V4), ShortAddresses { found: 12, needed: UNIX }),
            (binary(0x20, 0, &[0; HEADER_MAX]), TooLong(HEADER_MAX + V2_HEAD)),
            (binary(0x21, 0x11, &[V4, &[1, 0]].concat()), BrokenTlv),
            (binary(0x21, 0x11, &[V4, &[1, 0, 1]].concat()), BrokenTlv),
            (binary(0x21, 0x11, &[V4, &tlv(CRC32C, b"abc")].concat()), Checksum),
        ] {
            assert_eq!(error(&bytes), expected, "{}", bytes.escape_ascii());
        }
        assert_eq!(error(&binary(0x31, 0, b"")[..13]), Version(3), "before the rest has come");
        for (bytes, expected) in
            [(&b"GET / HTTP/1.1\r\n"[..], Missing), (b"P\r", Missing), (b"\r\n\n", Missing)]
        {
            assert_eq!(error(bytes), expected);
        }
    }

    #[test]
    fn a_checksum_is_of_the_whole_header() {
        assert_eq!(crc32c(b"123456789".iter()), 0xe306_9283);
        let with = |crc: u32| {
            let tlvs =
                [tlv(0x02, b"authority"), tlv(CRC32C, &crc.to_be_bytes()), tlv(0x04, b"\0\0")].concat();
            binary(0x21, 0x11, &[V4, &tlvs].concat())
        };
        let right = with(crc32c(with(0).iter()));
        assert_eq!(whole(&right), told("203.0.113.7:51234", "10.0.0.1:6009"));
        // Without its type there is no checksum.
        let kind = V2_HEAD + INET + 3 + b"authority".len();
        for at in (12..right.len()).filter(|at| ![14, 15, kind].contains(at)) {
            let mut wrong = right.clone();
            wrong[at] ^= 0x80;
            assert!(read(&wrong).is_err(), "byte {at} is another one");
        }
    }

    #[test]
    fn a_header_may_be_cut_anywhere() {
        let long = binary(0x21, 0x11, &[V4, &tlv(4, &[0; HEADER_MAX - V2_HEAD - INET - 3])].concat());
        for header in [LINE, b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN \r \r\r\n", &binary(0x21, 0x11, V4), &long]
        {
            let ends = whole(header);
            for cut in 0..header.len() {
                let Ok(Progress::Lacks(lacks)) = read(&header[..cut]) else { panic!("cut at {cut}") };
                assert!((1..=header.len() - cut).contains(&lacks), "cut at {cut}");
            }
            let followed = [header, b"\x01\0\0\x01\0"].concat();
            for piece in [1, 2, 7, HEADER_MAX] {
                assert_eq!(in_pieces(&followed, piece), Ok((header.len(), ends)), "by {piece}");
            }
        }
    }

    #[test]
    fn what_is_told_to_cns() {
        let header = |source, destination| {
            let mut out = Vec::new();
            write(&mut out, told(source, destination));
            out
        };
        assert_eq!(header("203.0.113.7:51234", "10.0.0.1:6009"), binary(0x21, 0x11, V4));
        assert_eq!(header("[::ffff:203.0.113.7]:51234", "[::ffff:10.0.0.1]:6009"), binary(0x21, 0x11, V4));
        assert_eq!(whole(&header("203.0.113.7:1", "[::1]:2")), told("203.0.113.7:1", "0.0.0.0:2"));
        assert_eq!(whole(&header("[2001:db8::7]:1", "10.0.0.1:2")), told("[2001:db8::7]:1", "[::]:2"));
        let mut local = Vec::new();
        write(&mut local, None);
        assert_eq!(local, binary(0x20, 0, b""));
    }

    #[test]
    fn no_login_begins_as_a_header_does() {
        assert!(is_start(*b"PROX") && is_start(*b"\r\n\r\n"));
        assert!(!is_start(*b"PROY") && !is_start([0x4e, 0, 0, 1]));
    }

    /// The ends as another reader tells them; none where it does not take the header.
    fn of_oracle(bytes: &[u8]) -> Option<(usize, Option<Ends>)> {
        use ppp::{HeaderResult, v1, v2};
        let ends = |source: SocketAddr, destination: SocketAddr| Some(Ends { source, destination });
        match HeaderResult::parse(bytes) {
            HeaderResult::V1(header) => {
                let header = header.ok()?;
                let told = match header.addresses {
                    v1::Addresses::Tcp4(of) => ends(
                        (of.source_address, of.source_port).into(),
                        (of.destination_address, of.destination_port).into(),
                    ),
                    v1::Addresses::Tcp6(of) => ends(
                        (of.source_address, of.source_port).into(),
                        (of.destination_address, of.destination_port).into(),
                    ),
                    v1::Addresses::Unknown => None,
                };
                Some((header.header.len(), told))
            }
            HeaderResult::V2(header) => {
                let header = header.ok()?;
                let told = match header.addresses {
                    _ if header.command == v2::Command::Local || header.protocol != v2::Protocol::Stream => {
                        None
                    }
                    v2::Addresses::IPv4(of) => ends(
                        (of.source_address, of.source_port).into(),
                        (of.destination_address, of.destination_port).into(),
                    ),
                    v2::Addresses::IPv6(of) => ends(
                        (of.source_address, of.source_port).into(),
                        (of.destination_address, of.destination_port).into(),
                    ),
                    v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
                };
                Some((header.len(), told))
            }
        }
    }

    fn headers() -> impl Strategy<Value = Vec<u8>> {
        let ends = any::<(SocketAddr, SocketAddr)>();
        let line = ends.clone().prop_map(|(from, to)| {
            let protocol = if from.is_ipv4() { "TCP4" } else { "TCP6" };
            let (ip, to_ip, port, to_port) = (from.ip(), to.ip(), from.port(), to.port());
            format!("PROXY {protocol} {ip} {to_ip} {port} {to_port}\r\n").into_bytes()
        });
        let told = ends.prop_map(|(source, destination)| {
            let mut out = Vec::new();
            write(&mut out, Some(Ends { source, destination }));
            out
        });
        let body = proptest::collection::vec(any::<u8>(), 0..300);
        let any = (0x1fu8..0x23, prop_oneof![Just(0x11), Just(0x21), Just(0x31), any::<u8>()], body);
        prop_oneof![line, told, any.prop_map(|(command, family, body)| binary(command, family, &body))]
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            mut bytes in headers(),
            piece in 1usize..40,
            change in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
            behind: Vec<u8>,
        ) {
            if let Some((at, byte)) = change {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.extend_from_slice(&behind);
            let at_once = match read(&bytes) {
                Ok(Progress::Whole { length, ends }) => Ok((length, ends)),
                Ok(Progress::Lacks(_)) => Err(HeaderError::Missing),
                Err(error) => Err(error),
            };
            prop_assert_eq!(in_pieces(&bytes, piece).ok(), at_once.clone().ok());
            // Another reader agrees to what is taken, but wants right addresses even where they are to be ignored.
            if let Ok(read) = at_once {
                let other = of_oracle(&bytes);
                prop_assert!(other == Some(read) || other.is_none() && read.1.is_none(), "{other:?}");
            }
        }

        #[test]
        fn what_another_reader_takes_is_taken(bytes in headers()) {
            let ours = read(&bytes);
            let theirs = of_oracle(&bytes);
            let spared = matches!(ours, Err(HeaderError::BrokenTlv | HeaderError::Checksum));
            prop_assert!(spared || theirs.is_none() || ours.is_ok(), "{ours:?} {theirs:?}");
        }

        #[test]
        fn noise_never_panics(bytes: Vec<u8>) {
            let _ = read(&bytes);
            let _ = read(&[V1_START, &bytes[..]].concat());
            let _ = read(&[SIGNATURE, &bytes[..]].concat());
        }
    }
}
