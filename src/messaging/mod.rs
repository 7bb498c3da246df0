//! MESSAGE (RFC 3428), first form: delivered to the devices of a user, or refused. Delivery itself is forwarding and belongs to the proxy; what may be
//! delivered is decided in [`admission`].

pub mod admission;
