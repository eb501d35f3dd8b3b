//! Certificates that a test issues by itself, as files in a directory of its own.

use std::fs;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use super::place::Workplace;

/// Somebody who vouches for others.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    workplace: Workplace,
    /// Its own certificate.
    pub file: PathBuf,
}

/// A certificate and its key, in files.
pub struct Issued {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let workplace = Workplace::new(name);
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let file = workplace.join("ca.pem");
        fs::write(&file, certificate.pem()).expect("write the certificate");
        Self { issuer: Issuer::new(params, key), workplace, file }
    }

    /// A certificate for host names and addresses, or for a client where there are none. One of the same name is replaced.
    pub fn issue(&self, name: &str, hosts: &[&str]) -> Issued {
        self.sign(name, params(name, hosts))
    }

    /// A certificate for a client of an organization.
    pub fn issue_of(&self, name: &str, organization: &str) -> Issued {
        let mut params = params(name, &[]);
        params.distinguished_name.push(DnType::OrganizationName, organization);
        self.sign(name, params)
    }

    fn sign(&self, name: &str, params: CertificateParams) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let [chain, key_file] = ["crt", "key"].map(|kind| self.workplace.join(&format!("{name}.{kind}")));
        fs::write(&chain, certificate.pem()).expect("write the certificate");
        fs::write(&key_file, key.serialize_pem()).expect("write the key");
        Issued { certificate: chain, key: key_file }
    }
}

impl Issued {
    /// As `certificate_file` and `key_file`.
    pub fn toml(&self) -> String {
        format!(
            "certificate_file = \"{}\"\nkey_file = \"{}\"\n",
            self.certificate.display(),
            self.key.display()
        )
    }
}

fn params(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(hosts).expect("names");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
