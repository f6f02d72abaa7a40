//! Stands in for the TLS client in a build without the feature `tls`.

use super::verification::Verification;
use crate::node::transport::{Transport, TransportFuture};

/// TLS to the node. This build has no TLS, so no value of this type exists.
#[derive(Clone, Debug)]
pub enum Tls {}

impl Tls {
    pub(crate) fn start(&self, _stream: Box<dyn Transport>) -> TransportFuture {
        match *self {}
    }

    pub(crate) fn verification(&self) -> Verification {
        match *self {}
    }

    pub(crate) fn schedule_reread(&self) {
        match *self {}
    }

    pub(crate) async fn reload(&self) {
        match *self {}
    }

    pub(crate) async fn changed(&mut self) {
        match *self {}
    }
}
