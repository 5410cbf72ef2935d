"""Alarms on late copies, in each region that copies from: CloudWatch has those metrics there, and an alarm sees and
tells its own region only. The stack makes one of them itself: from the first bucket to the second, where the first is
in us-east-1.

S3 User Guide, "Monitoring replication with metrics, event notifications, and statuses"; CloudWatch User Guide, "Using
Amazon CloudWatch alarms".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from botocore.exceptions import BotoCoreError, ClientError

from nearpoint.aws.clients import HOME_REGION, Clients
from nearpoint.aws.explain import explained
from nearpoint.aws.record import DataBucket
from nearpoint.aws.replication import MINUTES

TOPIC_OUTPUT = "AlarmTopicArn"  # a template with this output wants alarms
EMAIL_PARAMETER = "AlarmEmail"
PERIOD_S, PERIODS = 300, 2


def _name(stack: str, source: DataBucket, target: DataBucket) -> str:
    return f"{stack}-copies-from-{source.region}-to-{target.region}"


def _topic(stack: str) -> str:
    return f"{stack}-alarms"


def _pairs(data: Sequence[DataBucket]) -> Iterator[tuple[DataBucket, list[DataBucket]]]:
    """Each bucket, and those it copies to that the stack has no alarm for."""
    for place, source in enumerate(data):
        of_the_stack = data[1:2] if place == 0 and source.region == HOME_REGION else ()
        targets = [each for each in data if each is not source and each not in of_the_stack]
        if source.made and targets:
            yield source, targets


def watch(clients: Clients, stack: str, data: Sequence[DataBucket], email: str, step: Callable[[str], None]) -> None:
    """Make the topics and alarms, or bring them up to date. Raises DeployError."""
    try:
        for source, targets in _pairs(data):
            step(f"alarms on late copies in {source.region}")
            sns, cloudwatch = clients.client("sns", source.region), clients.client("cloudwatch", source.region)
            topic = sns.create_topic(Name=_topic(stack))["TopicArn"]
            known = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
            if email and email not in {each["Endpoint"] for each in known}:
                sns.subscribe(TopicArn=topic, Protocol="email", Endpoint=email)
            for target in targets:
                cloudwatch.put_metric_alarm(
                    AlarmName=_name(stack, source, target),
                    AlarmDescription=f"Copying {source.name} to {target.name} is more than {MINUTES} minutes behind",
                    Namespace="AWS/S3",
                    MetricName="ReplicationLatency",
                    Dimensions=[
                        {"Name": "SourceBucket", "Value": source.name},
                        {"Name": "DestinationBucket", "Value": target.name},
                        {"Name": "RuleId", "Value": f"to-{target.parameter}"},
                    ],
                    Statistic="Maximum",
                    Period=PERIOD_S,
                    EvaluationPeriods=PERIODS,
                    Threshold=MINUTES * 60,
                    ComparisonOperator="GreaterThanThreshold",
                    TreatMissingData="notBreaching",
                    AlarmActions=[topic],
                )
    except (ClientError, BotoCoreError) as error:
        raise explained(error) from error


def unwatch(clients: Clients, stack: str, data: Sequence[DataBucket], step: Callable[[str], None]) -> list[str]:
    """Remove them; says which there were. Raises DeployError."""
    removed = []
    try:
        for source, targets in _pairs(data):
            cloudwatch, sns = clients.client("cloudwatch", source.region), clients.client("sns", source.region)
            wanted = [_name(stack, source, target) for target in targets]
            found = [each["AlarmName"] for each in cloudwatch.describe_alarms(AlarmNames=wanted)["MetricAlarms"]]
            if not found:
                continue
            step(f"delete the alarms in {source.region}")
            account_id = clients.identity().account_id
            sns.delete_topic(TopicArn=f"arn:aws:sns:{source.region}:{account_id}:{_topic(stack)}")
            cloudwatch.delete_alarms(AlarmNames=found)  # last: what is found again is deleted again
            removed += [f"alarm {name}" for name in found]
    except (ClientError, BotoCoreError) as error:
        raise explained(error) from error
    return removed
