//! Certificates of authorities of the tests' own.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// Files in a folder.
pub(crate) struct Certificates {
    /// Of the server `localhost`.
    pub(crate) server: PathBuf,
    /// What the server proves it by, which nobody else may read.
    pub(crate) key: PathBuf,
    /// Of who has signed it.
    pub(crate) right: PathBuf,
    /// Of another authority.
    pub(crate) wrong: PathBuf,
}

impl Certificates {
    pub(crate) fn write(folder: &Path) -> Self {
        let (right, wrong) = (authority("right"), authority("wrong"));
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &right).unwrap();
        let file = |name: &str, text: String, mode: u32| {
            let path = folder.join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            path
        };
        Self {
            server: file("server.crt", own.pem(), 0o644),
            key: file("server.key", key.serialize_pem(), 0o600),
            right: file("right.pem", right.pem(), 0o644),
            wrong: file("wrong.pem", wrong.pem(), 0o644),
        }
    }
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}
