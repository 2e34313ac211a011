//! What of the cluster's ENIs counts as nobody's.

use super::{Cloud, EniId, ec2, fields, serve};
use ipam_core::Timestamp;
use ipam_engine::ports::EniTag;

const INSTANCE: &str = "node.k8s.amazonaws.com/instance_id";

#[tokio::test]
async fn nothing_is_free_unless_every_sign_says_so() {
    // (status, description, more, more tags, free)
    let table = [
        ("available", "aws-K8S-i-2", "", "", true),
        (
            "available",
            "aws-K8S-i-2",
            "<interfaceType>interface</interfaceType>",
            "",
            true,
        ),
        ("in-use", "aws-K8S-i-2", "", "", false),
        ("attaching", "aws-K8S-i-2", "", "", false),
        ("available", "made by hand", "", "", false),
        ("available", "", "", "", false),
        (
            "available",
            "aws-K8S-i-2",
            "<attachment><attachmentId>eni-attach-1</attachmentId><deviceIndex>1</deviceIndex></attachment>",
            "",
            false,
        ),
        (
            "available",
            "aws-K8S-i-2",
            "<interfaceType>trunk</interfaceType>",
            "",
            false,
        ),
        (
            "available",
            "aws-K8S-i-2",
            "",
            "<item><key>node.k8s.amazonaws.com/no_manage</key><value>true</value></item>",
            false,
        ),
    ];
    for (status, description, more, tags, free) in table {
        let body = format!(
            "<DescribeNetworkInterfacesResponse><networkInterfaceSet><item>\
             <networkInterfaceId>eni-7</networkInterfaceId><status>{status}</status>\
             <description>{description}</description>{more}<tagSet>{tags}\
             <item><key>{INSTANCE}</key><value>i-2</value></item>\
             <item><key>node.k8s.amazonaws.com/createdAt</key><value>2026-01-01T00:00:01Z</value></item>\
             </tagSet></item></networkInterfaceSet></DescribeNetworkInterfacesResponse>"
        );
        let (address, mut asked) = serve(vec![Some((200, body))]).await;
        let seen = ec2(address).await.tagged().await.expect("answers");
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].free, free, "{status} {description} {more} {tags}");
        assert_eq!(seen[0].created, Some(Timestamp(1_767_225_601_000)));
        let fields = fields(&asked.recv().await.expect("was asked"));
        assert_eq!(
            fields["Filter.1.Name"],
            "tag:cluster.k8s.amazonaws.com/name"
        );
        assert_eq!(fields["Filter.1.Value.1"], "blue");
        assert_eq!(fields["Filter.2.Value.1"], INSTANCE);
    }
}

#[tokio::test]
async fn tags_are_those_that_others_look_for() {
    for (tag, key, value) in [
        (EniTag::Mine, INSTANCE, Some("i-1")),
        (EniTag::CreatedNow, "node.k8s.amazonaws.com/createdAt", None),
    ] {
        let body = "<CreateTagsResponse><return>true</return></CreateTagsResponse>".to_owned();
        let (address, mut asked) = serve(vec![Some((200, body))]).await;
        let done = ec2(address).await.tag(EniId("eni-7".into()), tag).await;
        done.expect("tags");
        let fields = fields(&asked.recv().await.expect("was asked"));
        assert_eq!(fields["ResourceId.1"], "eni-7");
        let at = fields
            .iter()
            .find(|(_, v)| *v == key)
            .expect("has the key")
            .0;
        let written = &fields[&at.replace("Key", "Value")];
        assert!(value.is_none_or(|v| v == written), "{written}");
    }
}
