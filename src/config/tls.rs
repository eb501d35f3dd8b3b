//! `[tls]` and `[cn_tls]`: what corelane is as a server and as a client, made of the files that they name.
//!
//! The files are read with the configuration, so that a wrong one is a mistake of it like any other, and a reload takes up new
//! contents of the same files. Two settings are the same where the contents are.

use std::fmt;
use std::io::{self, Read as _};
use std::path::Path;

use rustls::RootCertStore;
use sha2::{Digest, Sha256};

use crate::route::TlsMode;

use super::certificates::{
    ClientCertificates, ClientContext, ContextError, Identity, Oldest, ServerContext, Trust, authorities,
};
use super::mistake::Mistakes;
use super::reader::{Place, Read};
use super::value;
use crate::route::certificate::Field;

/// The bytes of a file of certificates or keys at most.
const PEM_FILE_MAX: u64 = 1 << 20;

/// `[tls]` with a certificate.
#[derive(Clone, PartialEq)]
pub struct ServerTls {
    pub context: Printed<ServerContext>,
    /// Clients without it are refused.
    pub required: bool,
    /// Clients are asked for certificates.
    pub asks: bool,
    /// Labels that a client's certificate gives, and the fields that they are taken from.
    pub labels: Vec<(String, Field)>,
}

/// `[cn_tls]`: what corelane is and believes towards CNs, in each mode, as a CN may have its own.
#[derive(Clone, PartialEq)]
pub struct CnTls {
    /// Of CNs that do not say otherwise.
    mode: TlsMode,
    contexts: Printed<CnContexts>,
}

#[derive(Clone)]
struct CnContexts {
    anybody: ClientContext,
    authority: ClientContext,
    name: ClientContext,
    /// There is somebody who vouches for CNs. Without, the two above believe nobody.
    vouches: bool,
}

/// TLS towards one CN.
#[derive(Clone, Copy)]
pub struct CnTerms<'a> {
    pub context: &'a ClientContext,
    /// A CN that offers none is spoken to without.
    pub is_optional: bool,
}

impl CnTls {
    /// TLS towards a CN of this mode; none: that of `[cn_tls]`. None where there is to be none.
    pub fn of(&self, mode: Option<TlsMode>) -> Option<CnTerms<'_>> {
        let contexts = &self.contexts.context;
        let mode = mode.unwrap_or(self.mode);
        let context = match mode {
            TlsMode::Off => return None,
            TlsMode::Preferred | TlsMode::Required => &contexts.anybody,
            TlsMode::VerifyCa => &contexts.authority,
            TlsMode::VerifyName => &contexts.name,
        };
        Some(CnTerms { context, is_optional: mode == TlsMode::Preferred })
    }

    /// Whether somebody vouches for CNs.
    pub fn vouches(&self) -> bool {
        self.contexts.context.vouches
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("required", &self.required).finish_non_exhaustive()
    }
}

impl fmt::Debug for CnTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CnTls").field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// A context with the fingerprint of all that it was made of.
#[derive(Clone)]
pub struct Printed<T> {
    pub context: T,
    print: [u8; 32],
}

impl<T> PartialEq for Printed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.print == other.print
    }
}

/// `[tls]`.
pub(super) fn server(place: &Place<'_>, directory: &Path, mistakes: &mut Mistakes) -> Option<ServerTls> {
    let mut files = Files { place, directory, hash: Sha256::new() };
    let required = place.read("required", mistakes, value::switch).is_some_and(|read| read.value);
    let pair = files.pair(mistakes);
    let oldest = files.oldest(mistakes);
    let asks = files.word("client_certificates", mistakes);
    let roots = files.roots("client_ca_file", mistakes);
    let labels = place.read("certificate_labels", mistakes, value::certificate_labels);
    if asks != "no" && !place.has("client_ca_file") {
        let message = format!("client certificates are {asks}, and nobody vouches for them");
        mistakes.push_absence(place.span(), message, "write `client_ca_file`".to_owned());
    }
    if !place.has("certificate_file") {
        if required || asks != "no" || place.has("key_file") || place.has("client_ca_file") {
            let help = "write `certificate_file` and `key_file`".to_owned();
            mistakes.push_absence(place.span(), "[tls] has no certificate".to_owned(), help);
        }
        return None;
    }
    let clients = match (asks.as_str(), roots) {
        ("optional", Some(roots)) => ClientCertificates::Optional(roots),
        ("required", Some(roots)) => ClientCertificates::Required(roots),
        _ => ClientCertificates::No,
    };
    let context = ServerContext::new(pair?, clients, oldest);
    let labels = labels.map_or(Vec::new(), |read| read.value);
    Some(ServerTls {
        context: files.printed("key_file", context, mistakes)?,
        required,
        asks: asks != "no",
        labels,
    })
}

/// `[cn_tls]`.
pub(super) fn client(place: &Place<'_>, directory: &Path, mistakes: &mut Mistakes) -> CnTls {
    let mut files = Files { place, directory, hash: Sha256::new() };
    let mode = TlsMode::named(&files.word("mode", mistakes)).unwrap_or(TlsMode::Off);
    let oldest = files.oldest(mistakes);
    let pair = files.pair(mistakes);
    let roots = files.roots("ca_file", mistakes);
    if mode.verifies() && !place.has("ca_file") {
        let message = format!("[cn_tls] mode is \"{}\", and nobody vouches for CNs", mode.name());
        mistakes.push_absence(place.span(), message, "write `ca_file`".to_owned());
    }
    let made = files.printed("key_file", contexts(pair, roots, oldest), mistakes);
    let nothing = || Printed {
        context: contexts(None, None, oldest).expect("nothing in it comes from a file"),
        print: [0; 32],
    };
    CnTls { mode, contexts: made.unwrap_or_else(nothing) }
}

fn contexts(
    pair: Option<Identity>,
    roots: Option<RootCertStore>,
    oldest: Oldest,
) -> Result<CnContexts, ContextError> {
    let anybody = ClientContext::new(pair.clone(), Trust::Anybody, oldest)?;
    let name = Trust::Name(roots.clone().unwrap_or_else(RootCertStore::empty));
    let name = ClientContext::new(pair.clone(), name, oldest)?;
    let vouches = roots.is_some();
    let authority = match roots {
        Some(roots) => ClientContext::new(pair, Trust::Authority(roots), oldest)?,
        None => name.clone(),
    };
    Ok(CnContexts { anybody, authority, name, vouches })
}

/// The files of one section, and what has been read of them so far.
struct Files<'a> {
    place: &'a Place<'a>,
    directory: &'a Path,
    hash: Sha256,
}

impl Files<'_> {
    fn word(&mut self, key: &str, mistakes: &mut Mistakes) -> String {
        let word = self.place.read(key, mistakes, value::word).map_or(String::new(), |read| read.value);
        self.hash.update(word.as_bytes());
        word
    }

    fn oldest(&mut self, mistakes: &mut Mistakes) -> Oldest {
        if self.word("min_version", mistakes) == "1.3" { Oldest::Tls13 } else { Oldest::Tls12 }
    }

    /// `certificate_file` and `key_file`, of which there are both or none.
    fn pair(&mut self, mistakes: &mut Mistakes) -> Option<Identity> {
        let [certificate, key] = ["certificate_file", "key_file"].map(|key| self.place.has(key));
        if certificate != key {
            let missing = if certificate { "key_file" } else { "certificate_file" };
            let message = format!("{} has only one of certificate and key", self.place.heading());
            mistakes.push_absence(self.place.span(), message, format!("write `{missing}`"));
        }
        let chain = self.contents("certificate_file", mistakes);
        let key = self.contents("key_file", mistakes);
        let (chain, key) = (chain?, key?);
        match Identity::read(&chain.value, &key.value) {
            Ok(identity) => Some(identity),
            Err(error) => {
                let span = if matches!(error, ContextError::Key(_)) { key.span } else { chain.span };
                mistakes.push(span, error.to_string(), None);
                None
            }
        }
    }

    fn roots(&mut self, key: &str, mistakes: &mut Mistakes) -> Option<RootCertStore> {
        let pem = self.contents(key, mistakes)?;
        match authorities(&pem.value) {
            Ok(roots) => Some(roots),
            Err(error) => {
                mistakes.push(pem.span, error.to_string(), None);
                None
            }
        }
    }

    fn contents(&mut self, key: &str, mistakes: &mut Mistakes) -> Option<Read<Vec<u8>>> {
        let file = self.place.read(key, mistakes, value::file)?;
        match read_file(&self.directory.join(&file.value)) {
            Ok(contents) => {
                self.hash.update((contents.len() as u64).to_le_bytes());
                self.hash.update(&contents);
                Some(Read { value: contents, span: file.span })
            }
            Err(error) => {
                mistakes.push(file.span, format!("`{}`: {error}", file.value), None);
                None
            }
        }
    }

    /// A context, or a mistake at `key`.
    fn printed<T>(
        self,
        key: &str,
        context: Result<T, ContextError>,
        mistakes: &mut Mistakes,
    ) -> Option<Printed<T>> {
        match context {
            Ok(context) => Some(Printed { context, print: self.hash.finalize().into() }),
            Err(error) => {
                mistakes.push(self.place.key_span(key), error.to_string(), None);
                None
            }
        }
    }
}

pub(super) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut contents = Vec::new();
    std::fs::File::open(path)?.take(PEM_FILE_MAX + 1).read_to_end(&mut contents)?;
    if contents.len() as u64 > PEM_FILE_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("more than {PEM_FILE_MAX} bytes")));
    }
    Ok(contents)
}
