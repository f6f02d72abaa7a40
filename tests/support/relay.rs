//! A man in the middle of a TLS login: he has a certificate of his own, and relays every byte
//! of the login between the probe and the server.
#![allow(dead_code, reason = "each user needs only a part")]

use std::io;
use std::sync::{Arc, Mutex};

use galera_probe::node::tls::{Check, Files, Tls};
use galera_probe::node::transport::Transport;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use crate::support::wire;
use crate::tls::Issued;

/// What the probe sent, without TLS.
pub type Learnt = Arc<Mutex<Vec<u8>>>;

/// Relays one connection. `issued` is the certificate that the probe gets to see.
pub async fn relay(
    mut probe: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    mut server: Box<dyn Transport>,
    issued: Issued,
    learnt: Learnt,
) -> io::Result<()> {
    let (sequence, greeting) = wire::read_packet(&mut server).await?;
    probe.write_all(&wire::packet(sequence, &greeting)).await?;
    let (sequence, request) = wire::read_packet(&mut probe).await?;
    assert!(wire::is_ssl_request(&request));
    server.write_all(&wire::packet(sequence, &request)).await?;

    let any = Tls::new(Check::Nothing, "server".try_into().unwrap(), Files::default()).unwrap();
    let mut server = any.start(server).await?;
    let mut probe = acceptor(&issued).accept(probe).await?;
    let mut from_probe = [0; 4096];
    let mut from_server = [0; 4096];
    loop {
        tokio::select! {
            length = probe.read(&mut from_probe) => {
                let bytes = &from_probe[..length?];
                if bytes.is_empty() {
                    return Ok(());
                }
                learnt.lock().unwrap().extend(bytes);
                server.write_all(bytes).await?;
                server.flush().await?;
            }
            length = server.read(&mut from_server) => {
                let bytes = &from_server[..length?];
                if bytes.is_empty() {
                    return Ok(());
                }
                probe.write_all(bytes).await?;
                probe.flush().await?;
            }
        }
    }
}

fn acceptor(issued: &Issued) -> TlsAcceptor {
    let chain = vec![CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Asserts that the probe sent nothing but the login of `user` and COM_QUIT: one packet with
/// the user name, at most one response to a switch of the plugin, and no password.
pub fn assert_only_a_login(learnt: &Learnt, user: &str, password: &str) {
    let learnt = learnt.lock().unwrap();
    let contains = |part: &[u8]| learnt.windows(part.len()).any(|window| window == part);
    assert!(contains(user.as_bytes()), "the login was not relayed");
    assert!(!contains(password.as_bytes()));
    for statement in ["SET", "SHOW", "SELECT"] {
        assert!(!contains(statement.as_bytes()), "{statement}");
    }
    assert!(learnt.ends_with(b"\x01\0\0\0\x01"), "no COM_QUIT");
}
