//! What each call says, field by field and nothing else; and answers that are not what was asked for.

use super::*;

fn block(text: &str) -> Block {
    Block::new(text.parse().expect("parses")).expect("is a block")
}

/// Makes one call, answered with `answer`, and returns what it sent besides its version.
async fn sent<T>(
    answer: &str,
    call: impl AsyncFnOnce(&Ec2) -> Result<T, CloudError>,
) -> (BTreeMap<String, String>, Result<T, CloudError>) {
    let (address, mut asked) = serve(vec![Some((200, answer.into()))]).await;
    let result = call(&ec2(address).await).await;
    let mut fields = fields(&asked.recv().await.expect("was asked"));
    fields.remove("Version");
    (fields, result)
}

fn assert_says(fields: &BTreeMap<String, String>, want: &[(&str, &str)]) {
    let want: BTreeMap<String, String> = want
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    assert_eq!(fields, &want);
}

const ADDRESSES: &str = "<AssignPrivateIpAddressesResponse><assignedPrivateIpAddressesSet>\
    <item><privateIpAddress>10.0.0.8</privateIpAddress></item>\
    <item><privateIpAddress>10.0.0.9</privateIpAddress></item></assignedPrivateIpAddressesSet>\
    </AssignPrivateIpAddressesResponse>";
const PREFIXES: &str = "<AssignPrivateIpAddressesResponse><assignedIpv4PrefixSet>\
    <item><ipv4Prefix>10.0.1.16/28</ipv4Prefix></item>\
    <item><ipv4Prefix>10.0.1.32/28</ipv4Prefix></item></assignedIpv4PrefixSet>\
    </AssignPrivateIpAddressesResponse>";
const SIX: &str = "<AssignIpv6AddressesResponse><assignedIpv6PrefixSet>\
    <item>2001:db8:0:0:1::/80</item></assignedIpv6PrefixSet></AssignIpv6AddressesResponse>";

#[tokio::test]
async fn an_assign_asks_for_one_kind() {
    let v4 = "AssignPrivateIpAddresses";
    for (answer, family, kind, count, action, field) in [
        (
            ADDRESSES,
            Family::V4,
            BlockKind::Address,
            2,
            v4,
            "SecondaryPrivateIpAddressCount",
        ),
        (
            PREFIXES,
            Family::V4,
            BlockKind::Prefix,
            2,
            v4,
            "Ipv4PrefixCount",
        ),
        (
            SIX,
            Family::V6,
            BlockKind::Prefix,
            1,
            "AssignIpv6Addresses",
            "Ipv6PrefixCount",
        ),
    ] {
        let call = async |ec2: &Ec2| ec2.assign("eni-7".into(), family, kind, count).await;
        let (fields, blocks) = sent(answer, call).await;
        let number = count.to_string();
        let want = [
            ("Action", action),
            ("NetworkInterfaceId", "eni-7"),
            (field, &number),
        ];
        assert_says(&fields, &want);
        assert_eq!(blocks.expect("assigns").len(), count as usize, "{field}");
    }
}

/// What EC2 gave and the answer does not name would be nobody's: a Describe tells.
#[tokio::test]
async fn an_answer_with_other_blocks_is_an_unknown_outcome() {
    for (answer, kind, count) in [
        (ADDRESSES, BlockKind::Address, 3),
        (ADDRESSES, BlockKind::Address, 1),
        (ADDRESSES, BlockKind::Prefix, 2),
        (PREFIXES, BlockKind::Address, 2),
        ("<AssignPrivateIpAddressesResponse/>", BlockKind::Prefix, 1),
    ] {
        let call = async |ec2: &Ec2| ec2.assign("eni-7".into(), Family::V4, kind, count).await;
        let (_, blocks) = sent(answer, call).await;
        let error = blocks.expect_err("is not what was asked for");
        assert_eq!(
            error.class,
            ErrorClass::UnknownOutcome,
            "{kind:?} {count}: {answer}"
        );
    }
}

#[tokio::test]
async fn a_create_asks_for_one_kind() {
    let answer = format!(
        "<CreateNetworkInterfaceResponse><networkInterface>{ENI}</networkInterface>\
         </CreateNetworkInterfaceResponse>"
    );
    for (kind, field) in [
        (BlockKind::Address, "SecondaryPrivateIpAddressCount"),
        (BlockKind::Prefix, "Ipv4PrefixCount"),
    ] {
        let request = CreateEni {
            asked: ipam_core::Timestamp(0),
            token: "t".into(),
            subnet: "subnet-1".into(),
            security_groups: Vec::new(),
            kind,
            family: Family::V4,
            count: 2,
        };
        let (fields, _) = sent(&answer, async |ec2: &Ec2| ec2.create(request).await).await;
        let counts = fields.iter().filter(|(name, _)| name.ends_with("Count"));
        let counts: Vec<_> = counts.map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(counts, [(field, "2")]);
    }
}

#[tokio::test]
async fn what_gives_back_names_all_and_nothing_else() {
    let done = "<Response><return>true</return></Response>";
    let blocks = ["10.0.0.8/32", "10.0.1.16/28", "10.0.0.9/32"]
        .map(block)
        .to_vec();
    let call = async |ec2: &Ec2| ec2.unassign("eni-7".into(), blocks).await;
    let (fields, result) = sent(done, call).await;
    result.expect("unassigns");
    assert_says(
        &fields,
        &[
            ("Action", "UnassignPrivateIpAddresses"),
            ("NetworkInterfaceId", "eni-7"),
            ("PrivateIpAddress.1", "10.0.0.8"),
            ("PrivateIpAddress.2", "10.0.0.9"),
            ("Ipv4Prefix.1", "10.0.1.16/28"),
        ],
    );
    let (fields, _) = sent(done, async |ec2: &Ec2| {
        ec2.detach("eni-attach-1".into()).await
    })
    .await;
    assert_says(
        &fields,
        &[
            ("Action", "DetachNetworkInterface"),
            ("AttachmentId", "eni-attach-1"),
        ],
    );
    let (fields, _) = sent(done, async |ec2: &Ec2| ec2.delete("eni-7".into()).await).await;
    assert_says(
        &fields,
        &[
            ("Action", "DeleteNetworkInterface"),
            ("NetworkInterfaceId", "eni-7"),
        ],
    );
}

#[tokio::test]
async fn an_attachment_is_told_to_go_with_the_instance() {
    let call = async |ec2: &Ec2| {
        ec2.set_delete_on_termination("eni-7".into(), "eni-attach-1".into())
            .await
    };
    let (fields, result) = sent("<Response><return>true</return></Response>", call).await;
    result.expect("modifies");
    assert_says(
        &fields,
        &[
            ("Action", "ModifyNetworkInterfaceAttribute"),
            ("NetworkInterfaceId", "eni-7"),
            ("Attachment.AttachmentId", "eni-attach-1"),
            ("Attachment.DeleteOnTermination", "true"),
        ],
    );
}

#[tokio::test]
async fn subnets_are_read_to_the_last_page() {
    let page = |id: &str, next: &str| {
        let body = format!(
            "<DescribeSubnetsResponse><subnetSet><item><subnetId>{id}</subnetId>\
             <cidrBlock>10.0.0.0/24</cidrBlock><availableIpAddressCount>5</availableIpAddressCount>\
             </item></subnetSet>{next}</DescribeSubnetsResponse>"
        );
        Some((200, body))
    };
    let pages = vec![
        page("subnet-1", "<nextToken>more</nextToken>"),
        page("subnet-2", ""),
    ];
    let (address, _asked) = serve(pages).await;
    let subnets = ec2(address).await.subnets().await.expect("are listed");
    let ids: Vec<&str> = subnets.iter().map(|s| s.id.as_str()).collect();
    assert_eq!(ids, ["subnet-1", "subnet-2"]);
}
