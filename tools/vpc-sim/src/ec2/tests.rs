//! The protocol against a real model: forms as SDKs send them in, XML out.

use super::{Call, missing_authentication, parse, render};
use vpc_model::request::{Action, EniAttribute};
use vpc_model::{Admission, Caller, Latencies, NodeSpec, SubnetSpec, Time, Vpc, VpcSpec};

const NOW: Time = Time::from_unix_millis(1_700_000_000_000);

fn vpc() -> Vpc {
    let mut subnet = SubnetSpec::new("10.0.0.0/18".parse().unwrap());
    subnet.id = Some("subnet-1".into());
    let mut node = NodeSpec::new("n1", "m5.large");
    node.instance_id = Some("i-1".into());
    node.primary_ip = Some("10.0.0.11".parse().unwrap());
    let spec = VpcSpec {
        subnets: vec![subnet],
        nodes: vec![node],
        latencies: Latencies::zero(),
        placement: vpc_model::Placement::Lowest,
        ..VpcSpec::default()
    };
    Vpc::new(spec, NOW).unwrap()
}

/// Sends a body and gives back status and XML.
fn send(vpc: &mut Vpc, body: &str) -> (u16, String) {
    let call = parse("", format!("Version=2016-11-15&{body}").as_bytes(), None);
    let caller = Caller::node("n1");
    let result = match &call.request {
        Ok(request) => vpc.execute(&Admission::immediate(), &caller, request, NOW),
        Err(error) => Err(error.clone()),
    };
    render(&call.action, &call.version, "req-1", &result)
}

fn between<'a>(xml: &'a str, tag: &str) -> &'a str {
    let (_, rest) = xml
        .split_once(&format!("<{tag}>"))
        .unwrap_or_else(|| panic!("{tag} in {xml}"));
    rest.split_once(&format!("</{tag}>")).unwrap().0
}

fn action(call: Call) -> Action {
    call.request.unwrap().action
}

#[test]
fn errors_have_ec2s_envelope() {
    let mut vpc = vpc();
    for (body, status, code, message) in [
        (
            "Action=DescribeSubnets&Bogus.1=1",
            400,
            "UnknownParameter",
            "The parameter Bogus.1 is not recognized",
        ),
        (
            "Action=DeleteNetworkInterface",
            400,
            "MissingParameter",
            "The request must contain the parameter networkInterfaceId",
        ),
        (
            "Action=Frobnicate",
            400,
            "InvalidAction",
            "The action Frobnicate is not valid for this web service.",
        ),
        (
            "Action=RunInstances",
            400,
            "UnsupportedOperation",
            "The operation RunInstances is not simulated by vpc-sim",
        ),
        (
            "",
            400,
            "MissingAction",
            "The request is missing an action parameter",
        ),
        (
            "Action=DescribeVpcs&DryRun=true",
            412,
            "DryRunOperation",
            "Request would have succeeded, but DryRun flag is set.",
        ),
        (
            "Action=DescribeVpcs&DryRun=perhaps",
            400,
            "InvalidParameterValue",
            "Invalid value 'perhaps' for dryRun. Must be true or false.",
        ),
        (
            "Action=DescribeVpcs&MaxResults=many",
            400,
            "InvalidParameterValue",
            "Value (many) for parameter maxResults is invalid.",
        ),
        (
            "Action=AssignPrivateIpAddresses&NetworkInterfaceId=eni-1&PrivateIpAddress.1=10.0.0",
            400,
            "InvalidParameterValue",
            "invalid value for parameter address: 10.0.0",
        ),
    ] {
        let envelope = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{code}</Code>\
             <Message>{message}</Message></Error></Errors><RequestID>req-1</RequestID></Response>"
        );
        assert_eq!(send(&mut vpc, body), (status, envelope), "{body}");
    }
    assert_eq!(missing_authentication().http_status, 403);
}

#[test]
fn a_subnet_is_rendered_to_the_letter() {
    let mut vpc = vpc();
    let (status, xml) = send(&mut vpc, "Action=DescribeSubnets&SubnetId.1=subnet-1");
    assert_eq!(status, 200);
    let id = vpc.id().to_string();
    let golden = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<DescribeSubnetsResponse \
         xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>req-1</requestId><subnetSet>\
         <item><subnetId>subnet-1</subnetId>\
         <subnetArn>arn:aws:ec2:eu-west-1:123456789012:subnet/subnet-1</subnetArn>\
         <state>available</state><ownerId>123456789012</ownerId><vpcId>{id}</vpcId>\
         <cidrBlock>10.0.0.0/18</cidrBlock><ipv6CidrBlockAssociationSet/>\
         <availableIpAddressCount>16378</availableIpAddressCount>\
         <availabilityZone>eu-west-1a</availabilityZone>\
         <availabilityZoneId>euw1-az1</availabilityZoneId><defaultForAz>false</defaultForAz>\
         <mapPublicIpOnLaunch>false</mapPublicIpOnLaunch>\
         <mapCustomerOwnedIpOnLaunch>false</mapCustomerOwnedIpOnLaunch>\
         <assignIpv6AddressOnCreation>false</assignIpv6AddressOnCreation>\
         <ipv6Native>false</ipv6Native><enableDns64>false</enableDns64>\
         <privateDnsNameOptionsOnLaunch><hostnameType>ip-name</hostnameType>\
         <enableResourceNameDnsARecord>false</enableResourceNameDnsARecord>\
         <enableResourceNameDnsAAAARecord>false</enableResourceNameDnsAAAARecord>\
         </privateDnsNameOptionsOnLaunch><tagSet/></item></subnetSet>\
         </DescribeSubnetsResponse>"
    );
    assert_eq!(xml, golden);
}

#[test]
fn an_eni_lives_over_the_wire() {
    let mut vpc = vpc();
    let (status, xml) = send(
        &mut vpc,
        "Action=CreateNetworkInterface&SubnetId=subnet-1&Description=a%20%26%20b&Ipv4PrefixCount=2&\
         TagSpecification.1.ResourceType=network-interface&TagSpecification.1.Tag.1.Key=k&\
         TagSpecification.1.Tag.1.Value=%3Cv%3E%22&ClientToken=t-1&\
         ConnectionTrackingSpecification.UdpTimeout=30",
    );
    assert_eq!(status, 200, "{xml}");
    let eni = between(&xml, "networkInterfaceId").to_owned();
    assert_eq!(between(&xml, "description"), "a &amp; b");
    assert_eq!(between(&xml, "clientToken"), "t-1");
    assert_eq!(
        between(&xml, "ipv4PrefixSet"),
        "<item><ipv4Prefix>10.0.0.16/28</ipv4Prefix></item>\
         <item><ipv4Prefix>10.0.0.32/28</ipv4Prefix></item>"
    );
    assert_eq!(
        between(&xml, "tagSet"),
        "<item><key>k</key><value>&lt;v&gt;&quot;</value></item>"
    );
    let attach = format!(
        "Action=AttachNetworkInterface&NetworkInterfaceId={eni}&InstanceId=i-1&DeviceIndex=1"
    );
    let (_, xml) = send(&mut vpc, &attach);
    let attachment = between(&xml, "attachmentId").to_owned();
    assert_eq!(between(&xml, "networkCardIndex"), "0");
    let modify = format!(
        "Action=ModifyNetworkInterfaceAttribute&NetworkInterfaceId={eni}&\
         Attachment.AttachmentId={attachment}&Attachment.DeleteOnTermination=true"
    );
    let (_, xml) = send(&mut vpc, &modify);
    assert!(xml.ends_with("<return>true</return></ModifyNetworkInterfaceAttributeResponse>"));
    let assign = format!(
        "Action=AssignPrivateIpAddresses&NetworkInterfaceId={eni}&SecondaryPrivateIpAddressCount=1"
    );
    let (_, xml) = send(&mut vpc, &assign);
    assert_eq!(
        between(&xml, "assignedPrivateIpAddressesSet"),
        "<item><privateIpAddress>10.0.0.5</privateIpAddress></item>"
    );
    let (_, xml) = send(
        &mut vpc,
        "Action=DescribeNetworkInterfaces&Filter.1.Name=attachment.instance-id&Filter.1.Value.1=i-1&\
         Filter.2.Name=attachment.device-index&Filter.2.Value.1=1&Filter.2.Value.2=7",
    );
    let shown = between(&xml, "attachment");
    assert!(
        shown.contains("<deleteOnTermination>true</deleteOnTermination>"),
        "{shown}"
    );
    assert!(
        shown.contains("<attachTime>2023-11-14T22:13:20.000Z</attachTime>"),
        "{shown}"
    );
    assert_eq!(xml.matches("<macAddress>").count(), 1);
}

#[test]
fn lists_are_read_in_the_order_of_their_numbers() {
    let call = parse(
        "Action=DescribeInstances&InstanceId.10=i-c&InstanceId.2=i-b",
        b"InstanceId.1=i-a&Version=2016-11-15&MaxResults=5",
        None,
    );
    let Action::DescribeInstances(by) = action(call) else {
        panic!("other action")
    };
    let ids: Vec<&str> = by
        .ids
        .iter()
        .map(vpc_model::ids::InstanceId::as_str)
        .collect();
    assert_eq!((ids, by.max_results), (vec!["i-a", "i-b", "i-c"], Some(5)));
}

#[test]
fn private_addresses_of_create() {
    let call = |body: &str| {
        parse(
            "",
            format!("Action=CreateNetworkInterface&SubnetId=s&{body}").as_bytes(),
            None,
        )
    };
    let body = "PrivateIpAddresses.1.PrivateIpAddress=10.0.0.8&PrivateIpAddresses.1.Primary=false&\
                PrivateIpAddresses.2.PrivateIpAddress=10.0.0.9&PrivateIpAddresses.2.Primary=true";
    let Action::CreateNetworkInterface(r) = action(call(body)) else {
        panic!("other action")
    };
    assert_eq!(r.primary, Some("10.0.0.9".parse().unwrap()));
    assert_eq!(
        r.v4.addresses,
        ["10.0.0.8".parse::<std::net::Ipv4Addr>().unwrap()]
    );
    let twice = call(&format!("{body}&PrivateIpAddress=10.0.0.7"))
        .request
        .unwrap_err();
    assert_eq!(twice.code, "InvalidParameterCombination");
}

#[test]
fn one_attribute_a_call() {
    let parse = |body: &str| {
        let body = format!("Action=ModifyNetworkInterfaceAttribute&NetworkInterfaceId=e&{body}");
        parse("", body.as_bytes(), None).request
    };
    let request = parse("SourceDestCheck.Value=false").unwrap();
    let Action::ModifyNetworkInterfaceAttribute(r) = request.action else {
        panic!("other")
    };
    assert_eq!(r.attribute, Some(EniAttribute::SourceDestCheck(false)));
    let error = parse("SourceDestCheck.Value=false&Description.Value=x").unwrap_err();
    assert_eq!(error.code, "InvalidParameterCombination");
    assert_eq!(
        parse("Attachment.AttachmentId=a").unwrap_err().code,
        "MissingParameter"
    );
}

#[test]
fn the_caller_is_told_from_the_signature() {
    let header = "AWS4-HMAC-SHA256 Credential=ASIAX/20231114/eu-west-1/ec2/aws4_request, \
                  SignedHeaders=host;x-amz-date, Signature=00";
    let key = |query: &str, header: Option<&str>| parse(query, b"", header).access_key_id;
    assert_eq!(
        key("Action=DescribeVpcs", Some(header)).as_deref(),
        Some("ASIAX")
    );
    let presigned =
        "Action=DescribeVpcs&X-Amz-Credential=ASIAY%2F20231114%2Feu-west-1%2Fec2&X-Amz-Signature=0";
    assert_eq!(key(presigned, None).as_deref(), Some("ASIAY"));
    assert!(parse(presigned, b"", None).request.is_ok());
    assert_eq!(key("AWSAccessKeyId=AKIAZ", None).as_deref(), Some("AKIAZ"));
    assert_eq!(key("Action=DescribeVpcs", Some("Bearer x")), None);
}

#[test]
fn what_xml_cannot_carry_is_replaced() {
    let mut vpc = vpc();
    let body = "Action=CreateTags&ResourceId.1=subnet-1&Tag.1.Key=k&Tag.1.Value=a%01b%0D%0Ac";
    assert_eq!(send(&mut vpc, body).0, 200);
    let (_, xml) = send(
        &mut vpc,
        "Action=DescribeTags&Filter.1.Name=key&Filter.1.Value.1=k",
    );
    assert_eq!(between(&xml, "value"), "a\u{fffd}b&#xD;\nc");
}
