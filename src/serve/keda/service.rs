//! The five calls.
//!
//! A stream whose pool is unknown or not in mode `act` is refused, or ended, with the reason: somebody must change
//! a configuration, and KEDA logs it. A stream whose number is missing stays open and says nothing until there is
//! one: the poll beside it reports the error, and what was pushed last stays true.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use tokio::sync::watch;
use tonic::{Extensions, Request, Response, Status};

use super::calls::Open;
use super::proto::external_scaler_server::ExternalScaler;
use super::proto::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec, MetricValue,
    ScaledObjectRef,
};
use super::pulse::{Beat, Pulse};
use super::{KedaOptions, METRIC, POOL_KEY, guard};
use crate::serve::auth::PeerCertificates;
use crate::serve::number::{self, NoNumber};
use crate::serve::state::ServeState;

/// Longest name Kubernetes has for anything; longer ones are not repeated in messages.
const MAX_NAME_BYTES: usize = 253;

/// The service.
#[derive(Debug)]
pub(super) struct Scaler {
    state: ServeState,
    options: KedaOptions,
    pulse: Arc<Pulse>,
}

impl Scaler {
    pub fn new(state: ServeState, options: KedaOptions, pulse: Arc<Pulse>) -> Self {
        Self { state, options, pulse }
    }

    /// The pool that is meant, if the caller may ask for it.
    fn asked(&self, object: Option<ScaledObjectRef>, caller: &Extensions) -> Result<Asked, Status> {
        let mut object = object.ok_or_else(|| Status::invalid_argument("the request names no ScaledObject"))?;
        let namespace = name("the ScaledObject's namespace", Some(object.namespace))?;
        self.permit(&namespace, caller)?;
        let pool = name("the trigger's metadata key `pool`", object.scaler_metadata.remove(POOL_KEY))?;
        Ok(Asked { namespace, pool })
    }

    fn permit(&self, namespace: &str, caller: &Extensions) -> Result<(), Status> {
        if self.options.namespaces.as_ref().is_some_and(|all| !all.contains(namespace)) {
            return Err(Status::permission_denied(format!("namespace {namespace:?} is not served here")));
        }
        let certificate = caller.get::<Arc<PeerCertificates>>().and_then(|peer| peer.leaf());
        if certificate.is_some_and(|der| !guard::permits(der, namespace)) {
            let message = format!("the client certificate does not allow namespace {namespace:?}");
            return Err(Status::permission_denied(message));
        }
        Ok(())
    }

    fn room(&self) -> Result<Open, Status> {
        let most = self.options.max_streams;
        let open = self.state.keda_calls().open(most);
        open.ok_or_else(|| Status::resource_exhausted(format!("{most} streams are open, no more are accepted")))
    }
}

/// A text of the request that must be a name.
fn name(what: &str, text: Option<String>) -> Result<String, Status> {
    match text {
        Some(text) if !text.is_empty() && text.len() <= MAX_NAME_BYTES => Ok(text),
        Some(text) if !text.is_empty() => {
            Err(Status::invalid_argument(format!("{what} is longer than {MAX_NAME_BYTES} bytes")))
        }
        _ => Err(Status::invalid_argument(format!("{what} is missing"))),
    }
}

/// The pool that a call is about.
#[derive(Debug)]
struct Asked {
    namespace: String,
    pool: String,
}

impl Asked {
    fn number(&self, state: &ServeState) -> Result<u32, NoNumber> {
        number::now(state, &self.namespace, &self.pool)
    }
}

/// How KEDA is told; on each of these it keeps the replicas there are.
fn refusal(why: &NoNumber) -> Status {
    let message = why.to_string();
    match why {
        NoNumber::Unknown { .. } => Status::not_found(message),
        NoNumber::NotActing { .. } => Status::failed_precondition(message),
        NoNumber::Withheld(_) | NoNumber::NotKnown { .. } | NoNumber::TooLarge { .. } | NoNumber::ZeroUnseen { .. } => {
            Status::unavailable(message)
        }
    }
}

/// One spec, always the same: HPA divides the number by 1.
fn spec() -> GetMetricSpecResponse {
    let spec = MetricSpec { metric_name: METRIC.to_owned(), target_size: 1, target_size_float: 1.0 };
    GetMetricSpecResponse { metric_specs: vec![spec] }
}

type Pushed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ExternalScaler for Scaler {
    type StreamIsActiveStream = Pushed<IsActiveResponse>;
    type StreamMetricSpecStream = Pushed<GetMetricSpecResponse>;

    async fn is_active(&self, request: Request<ScaledObjectRef>) -> Result<Response<IsActiveResponse>, Status> {
        let (_, caller, object) = request.into_parts();
        let asked = self.asked(Some(object), &caller)?;
        let number = asked.number(&self.state).map_err(|why| refusal(&why))?;
        Ok(Response::new(IsActiveResponse { result: number > 0 }))
    }

    async fn stream_is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamIsActiveStream>, Status> {
        let (_, caller, object) = request.into_parts();
        let asked = self.asked(Some(object), &caller)?;
        if let Err(why) = asked.number(&self.state)
            && !why.is_lack_of_data()
        {
            return Err(refusal(&why));
        }
        let room = self.room()?;
        let push = Push { state: self.state.clone(), asked, beats: self.pulse.join(), said: None, _room: room };
        Ok(Response::new(Box::pin(stream::unfold(Some(push), next))))
    }

    async fn get_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        let (_, caller, object) = request.into_parts();
        // Asked before the first decision too: KEDA makes the HPA from it.
        self.asked(Some(object), &caller)?;
        Ok(Response::new(spec()))
    }

    async fn get_metrics(&self, request: Request<GetMetricsRequest>) -> Result<Response<GetMetricsResponse>, Status> {
        let (_, caller, request) = request.into_parts();
        let asked = self.asked(request.scaled_object_ref, &caller)?;
        if request.metric_name != METRIC {
            return Err(Status::not_found(format!("there is no such metric, only {METRIC}")));
        }
        let number = asked.number(&self.state).map_err(|why| refusal(&why))?;
        let value = MetricValue {
            metric_name: METRIC.to_owned(),
            metric_value: i64::from(number),
            metric_value_float: f64::from(number),
        };
        Ok(Response::new(GetMetricsResponse { metric_values: vec![value] }))
    }

    async fn stream_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamMetricSpecStream>, Status> {
        let (_, caller, object) = request.into_parts();
        self.asked(Some(object), &caller)?;
        let room = self.room()?;
        let mut beats = self.pulse.join();
        // The spec never changes: said once, then open until the stop.
        let rest = stream::once(async move {
            let _ = beats.wait_for(|beat| beat.ended).await;
            drop(room);
        });
        let rest = rest.filter_map(async |()| None);
        Ok(Response::new(Box::pin(stream::once(async { Ok(spec()) }).chain(rest))))
    }
}

/// One open `StreamIsActive`. It holds no queue: what is true is read when the client has room for it.
struct Push {
    state: ServeState,
    asked: Asked,
    beats: watch::Receiver<Beat>,
    /// What was said last, and in which turn.
    said: Option<(bool, u64)>,
    _room: Open,
}

/// The next thing to say; `None` at the end.
async fn next(push: Option<Push>) -> Option<(Result<IsActiveResponse, Status>, Option<Push>)> {
    let mut push = push?;
    loop {
        let beat = *push.beats.borrow_and_update();
        if beat.ended {
            return None;
        }
        match push.asked.number(&push.state) {
            Ok(number) => {
                let active = number > 0;
                let due = match push.said {
                    None => true,
                    Some((said, turn)) => said != active || (active && turn != beat.repeat),
                };
                if due {
                    push.said = Some((active, beat.repeat));
                    return Some((Ok(IsActiveResponse { result: active }), Some(push)));
                }
            }
            Err(why) if why.is_lack_of_data() => {}
            Err(why) => return Some((Err(refusal(&why)), None)),
        }
        // An error means that the task which wakes us is gone: the daemon ends.
        push.beats.changed().await.ok()?;
    }
}
