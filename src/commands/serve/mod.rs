//! The program's jobs, wired together: [`serve`], [`check`] and [`check_via`].

pub mod admin;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::cli::{Node, Serve, Url};
use crate::commands::via::{self, Answered};
use crate::galera;
use crate::health::{Health, Reason, Role, Verdict};
use crate::http::{Answer, Asked, Form, Problem};
use crate::monitor::{Asking, RELIES_ON_CACHE, Target};
use crate::node::address::Address;
use crate::node::connector::Connector;
use crate::node::probe::Dialogue;
use crate::os::maintenance_file::Maintenance;
use crate::os::systemd::Notifier;
use crate::server::{Listener, MAX_CONNECTIONS, Server};
use admin::Exchanges;

/// What an exchange under way may still take when the program is told to stop,
/// and then what its answer may take. The process ends within both.
const STOP_TIME: Duration = Duration::from_millis(30);

/// Connections to the admin listener at once: Prometheus, and a few people.
const MAX_ADMIN: usize = 16;

/// How the program was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The balancer is to take the node out first.
    Drain,
    /// At once.
    Now,
}

/// Answers balancers until `stop`, drains, then finishes the exchanges under way, but
/// waits for nobody outside: whoever waits for the node is told `stopping`.
/// Dropped, it closes the listeners and the dialogue with the node.
pub async fn serve(
    listeners: Vec<Listener>,
    admin: Option<Listener>,
    config: Serve,
    stop: impl Future<Output = Stop>,
) {
    let Serve { maintenance_file, drain, node, .. } = config;
    let Node { address, security, settings } = node;
    let connector = Connector::secured(&address, security);
    let (target, asking) = Target::new(connector, settings);
    let balancers = Balancers {
        asking: asking.clone(),
        draining: AtomicBool::new(false),
        maintenance: maintenance_file.map(Maintenance::new),
        exchanges: Exchanges::default(),
    };
    if balancers.in_maintenance().await {
        info!("in maintenance");
    }
    info!(target = %address, version = admin::VERSION, "ready to ask");
    let balancers = Arc::new(balancers);
    let operators = Arc::new(Operators { asking, balancers: Arc::clone(&balancers), address });
    let server = Server::new(listeners, MAX_CONNECTIONS, {
        let balancers = Arc::clone(&balancers);
        move |asked, form| Arc::clone(&balancers).answer(asked, form)
    });
    let admin = Server::new(admin.into_iter().collect(), MAX_ADMIN, move |asked, form| {
        Arc::clone(&operators).answer(asked, form)
    });

    let notifier = Notifier::start();
    notifier.ready();
    let mut target = Box::pin(target.run());
    let drained = async {
        if stop.await == Stop::Drain && !drain.is_zero() {
            notifier.stopping();
            info!("draining for {drain:?}: every health path answers 503");
            balancers.draining.store(true, Ordering::Relaxed);
            sleep(drain).await;
        }
    };
    tokio::select! {
        () = &mut target => {}
        () = server.run() => {}
        () = admin.run() => {}
        () = notifier.feed() => {}
        () = drained => {}
    }
    notifier.stopping();
    let mut stopping = pin!(async {
        tokio::join!(server.stop(STOP_TIME), admin.stop(STOP_TIME));
    });
    tokio::select! {
        () = &mut target => {}
        () = &mut stopping => return,
        () = sleep(STOP_TIME) => {}
    }
    drop(target);
    // Who does not take its answer in time goes without.
    let _ = timeout(STOP_TIME, stopping).await;
}

/// What balancers are answered from.
struct Balancers {
    asking: Asking,
    draining: AtomicBool,
    maintenance: Option<Maintenance>,
    exchanges: Exchanges,
}

impl Balancers {
    async fn answer(self: Arc<Self>, asked: Asked, form: Form) -> Answer {
        let answer = match asked {
            Asked::Health(role) => Answer::health(self.health(role).await, form),
            Asked::Live => Answer::live(form),
            Asked::Metrics | Asked::Status => Answer::problem(Problem::NotFound, form),
            Asked::Other(problem) => Answer::problem(problem, form),
        };
        self.exchanges.count(&answer);
        answer
    }

    async fn health(&self, role: Role) -> Health {
        if self.draining.load(Ordering::Relaxed) {
            self.asking.withhold(Reason::Draining).await
        } else if self.in_maintenance().await {
            self.asking.withhold(Reason::Maintenance).await
        } else {
            self.asking.ask(role).await
        }
    }

    async fn in_maintenance(&self) -> bool {
        match &self.maintenance {
            Some(maintenance) => maintenance.is_on().await,
            None => false,
        }
    }
}

/// What the admin pages are made from.
struct Operators {
    asking: Asking,
    balancers: Arc<Balancers>,
    address: Address,
}

impl Operators {
    async fn answer(self: Arc<Self>, asked: Asked, form: Form) -> Answer {
        match asked {
            Asked::Metrics => {
                let report = self.asking.report().await;
                let page = admin::metrics(&report, &self.balancers.exchanges);
                Answer::page(admin::METRICS_TYPE, page, form)
            }
            Asked::Status => {
                let page = admin::status(&self.asking.report().await, &self.address);
                Answer::page("application/json", page, form)
            }
            Asked::Live => Answer::live(form),
            Asked::Health(_) => Answer::problem(Problem::NotFound, form),
            Asked::Other(problem) => Answer::problem(problem, form),
        }
    }
}

/// Asks the node once, within its deadlines.
pub async fn check(node: &Node, role: Role) -> Verdict {
    let Node { address, security, settings } = node;
    let connector = Connector::secured(address, security.clone());
    let mut dialogue = Dialogue::begin(&connector, &settings.login, settings.deadlines);
    let outcome = dialogue.run().await;
    if dialogue.relies_on_cache() {
        warn!("{RELIES_ON_CACHE}");
    }
    debug!(?outcome, step = %dialogue.step(), took = ?dialogue.began().elapsed(), "dialogue ended");
    let (verdict, cause) = match outcome {
        Ok(Ok(facts)) => (galera::judge(&facts, settings.policy, role), facts.to_string()),
        Ok(Err(failure)) => (Verdict::Refuse(failure.reason()), failure.to_string()),
        Err(stalled) => (Verdict::Refuse(stalled.reason()), stalled.to_string()),
    };
    if let Verdict::Refuse(reason) = verdict {
        warn!(target = %address, cause, advice = reason.advice(), "refuse, {reason}");
    }
    verdict
}

/// Asks a probe that is running, within `patience`: whether it answered 200, and what
/// it said.
///
/// # Errors
/// That it answered with what no probe answers: the URL is wrong.
pub async fn check_via(url: &Url, patience: Duration) -> io::Result<(bool, String)> {
    match via::ask(url, patience).await {
        Ok(Answered { status: 200, line }) => Ok((true, line)),
        Ok(Answered { status: 503, line }) => Ok((false, line)),
        Ok(Answered { status, .. }) => Err(io::Error::other(format!(
            "--via: the answer's status is {status}: give the URL of one of a probe's paths"
        ))),
        Err(error) => Ok((false, format!("unreachable: the probe did not answer: {error}"))),
    }
}
