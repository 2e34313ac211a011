//! IAM policy: who may call what. As much of the language as ENI policies use: Allow and Deny by
//! action with wildcards, and conditions on resource tags, request tags and tag keys.

use crate::state::State;
use crate::words::caller::{Caller, ROLE};
use crate::words::error::ApiError;
use crate::words::glob::glob;
use crate::words::ids::InstanceId;
use crate::words::policy::{OneOrMany, Policy, PolicyEffect, Statement};
use crate::words::request::{Action, Tags};
use std::collections::BTreeSet;

/// What a statement's conditions can ask about.
#[derive(Debug)]
struct Question<'a> {
    action: String,
    resource: String,
    resource_tags: Option<&'a Tags>,
    request_tags: Option<&'a Tags>,
    /// Set when tags come with a create call: `ec2:CreateAction`.
    create_action: Option<&'a str>,
}

impl Question<'_> {
    /// Values of a condition key; none if the request has no such key.
    fn values(&self, key: &str) -> Option<Vec<String>> {
        let tag = |tags: Option<&Tags>, key: &str| Some(vec![tags?.get(key)?.clone()]);
        let (service, rest) = key.split_once('/').unwrap_or((key, ""));
        match service {
            "aws:RequestTag" => tag(self.request_tags, rest),
            "aws:ResourceTag" | "ec2:ResourceTag" => tag(self.resource_tags, rest),
            "aws:TagKeys" => Some(self.request_tags?.keys().cloned().collect()),
            "ec2:CreateAction" => Some(vec![self.create_action?.to_owned()]),
            _ => None,
        }
    }
}

impl Policy {
    fn allows(&self, q: &Question<'_>) -> bool {
        let hit = |effect| {
            self.statements
                .iter()
                .any(|s| s.effect == effect && s.matches(q))
        };
        hit(PolicyEffect::Allow) && !hit(PolicyEffect::Deny)
    }
}

impl Statement {
    fn matches(&self, q: &Question<'_>) -> bool {
        // Action names know no case (*documented*).
        let action = q.action.to_ascii_lowercase();
        self.action
            .iter()
            .any(|a| glob(&a.to_ascii_lowercase(), &action))
            && self
                .resource
                .as_ref()
                .is_none_or(|r| r.iter().any(|r| arn_matches(r, &q.resource)))
            && self.condition.iter().all(|(operator, keys)| {
                keys.iter()
                    .all(|(key, want)| condition(operator, q.values(key), want))
            })
    }
}

/// A `*` in a policy's ARN stands for any text; `*` as the call's resource only fits `*`.
fn arn_matches(pattern: &str, resource: &str) -> bool {
    if resource == "*" {
        pattern == "*"
    } else {
        glob(pattern, resource)
    }
}

/// One condition. An operator that is not known never matches (*assumed*: AWS refuses such a
/// policy when it is stored).
fn condition(operator: &str, have: Option<Vec<String>>, want: &OneOrMany) -> bool {
    if let Some(inner) = operator.strip_prefix("ForAllValues:") {
        return have.is_none_or(|all| {
            all.into_iter()
                .all(|v| condition(inner, Some(vec![v]), want))
        });
    }
    if let Some(inner) = operator.strip_prefix("ForAnyValue:") {
        return have.is_some_and(|all| {
            all.into_iter()
                .any(|v| condition(inner, Some(vec![v]), want))
        });
    }
    if operator == "Null" {
        return want.iter().any(|w| w == "true") == have.is_none();
    }
    let (operator, if_exists) = match operator.strip_suffix("IfExists") {
        Some(inner) => (inner, true),
        None => (operator, false),
    };
    let Some(have) = have else {
        return if_exists || operator.starts_with("StringNot");
    };
    let any =
        |same: &dyn Fn(&str, &str) -> bool| have.iter().any(|h| want.iter().any(|w| same(w, h)));
    match operator {
        "StringEquals" => any(&|w, h| w == h),
        "StringNotEquals" => !any(&|w, h| w == h),
        "StringEqualsIgnoreCase" => any(&|w, h| w.eq_ignore_ascii_case(h)),
        "StringLike" => any(&glob),
        "StringNotLike" => !any(&glob),
        _ => false,
    }
}

/// Checks the policy for each resource that the call touches (*documented*: actions, resources
/// and condition keys for Amazon EC2). The operator and strangers may do all.
pub(crate) fn authorize(state: &State, caller: &Caller, action: &Action) -> Result<(), ApiError> {
    let (Some(policy), Caller::Node(node)) = (&state.spec.iam, caller) else {
        return Ok(());
    };
    for question in questions(state, action) {
        if policy.allows(&question) {
            continue;
        }
        let instance = state
            .nodes
            .get(node)
            .map(InstanceId::as_str)
            .unwrap_or_default();
        // Code and status *documented*, text *recorded*.
        return Err(ApiError::new(
            "UnauthorizedOperation",
            format!(
                "You are not authorized to perform this operation. User: \
                 arn:aws:sts::{}:assumed-role/{}/{instance} is not authorized to perform: {} \
                 on resource: {} because no identity-based policy allows the {} action",
                state.spec.account_id, ROLE, question.action, question.resource, question.action
            ),
        )
        .with_status(403));
    }
    Ok(())
}

fn questions<'a>(state: &'a State, action: &'a Action) -> Vec<Question<'a>> {
    let name = action.name();
    let ask = |resource: String, resource_tags: Option<&'a Tags>| Question {
        action: format!("ec2:{name}"),
        resource,
        resource_tags,
        request_tags: None,
        create_action: None,
    };
    let of = |id: &str| ask(arn(state, id), state.tags_of(id));
    match action {
        Action::CreateNetworkInterface(r) => {
            let new = arn(state, "eni-*");
            let mut all: Vec<Question<'a>> = r.subnet.iter().map(|s| of(s.as_str())).collect();
            all.extend(r.groups.iter().map(|g| of(g.as_str())));
            all.push(Question {
                request_tags: Some(&r.tags),
                ..ask(new.clone(), None)
            });
            if !r.tags.is_empty() {
                all.push(Question {
                    action: "ec2:CreateTags".into(),
                    request_tags: Some(&r.tags),
                    create_action: Some("CreateNetworkInterface"),
                    ..ask(new, None)
                });
            }
            all
        }
        Action::AttachNetworkInterface(r) => {
            vec![of(r.eni.as_str()), of(r.instance.as_str())]
        }
        Action::DetachNetworkInterface(r) => {
            let attachment = state.with_attachment(&r.attachment);
            let instance = attachment.and_then(|e| Some(e.attachment.as_ref()?.instance.clone()));
            let ids = attachment.map(|e| of(e.id.as_str())).into_iter();
            let all: Vec<_> = ids.chain(instance.map(|i| of(i.as_str()))).collect();
            if all.is_empty() {
                vec![ask(arn(state, "eni-*"), None)]
            } else {
                all
            }
        }
        Action::DeleteNetworkInterface(r) => vec![of(r.eni.as_str())],
        Action::ModifyNetworkInterfaceAttribute(r) => vec![of(r.eni.as_str())],
        Action::AssignPrivateIpAddresses(r) => vec![of(r.eni.as_str())],
        Action::UnassignPrivateIpAddresses(r) => vec![of(r.eni.as_str())],
        Action::AssignIpv6Addresses(r) => vec![of(r.eni.as_str())],
        Action::UnassignIpv6Addresses(r) => vec![of(r.eni.as_str())],
        Action::CreateTags(r) => {
            let with = |id: &String| Question {
                request_tags: Some(&r.tags),
                ..of(id)
            };
            r.resources.iter().map(with).collect()
        }
        Action::DeleteTags(r) => {
            let ids: BTreeSet<&String> = r.resources.iter().collect();
            ids.into_iter().map(|id| of(id)).collect()
        }
        // *documented*: Describe calls have no resource.
        _ => vec![ask("*".into(), None)],
    }
}

fn arn(state: &State, id: &str) -> String {
    let kind = match id.split('-').next() {
        Some("eni") => "network-interface",
        Some("i") => "instance",
        Some("sg") => "security-group",
        Some(other) => other,
        None => "*",
    };
    let id = if id == "eni-*" { "*" } else { id };
    format!(
        "arn:aws:ec2:{}:{}:{kind}/{id}",
        state.spec.region, state.spec.account_id
    )
}
