"""Checks that the objects of deploy/kubernetes fit together.

A schema does not check this: that the names in selectors, ports and volumes exist, that
Azure's provider knows the annotations, and that the times have the order that the
comments describe. Reads the output of `kubectl kustomize` from standard input. Prints the
user, variables and arguments of the probe's container and the kubelet's requests, as
pairs of a kind and a value, each ended by NUL.
"""

import re
import sys

import yaml

# From the documentation of cloud-provider-azure's load balancer.
AZURE = "service.beta.kubernetes.io/"
ANNOTATIONS = [
    "azure-load-balancer-internal",
    "azure-load-balancer-tcp-idle-timeout",
    r"port_(?P<port>\d+)_no_lb_rule",
    r"port_(?P<port>\d+)_health-probe_(port|protocol|request-path|interval|num-of-probe)",
]

objects = list(yaml.safe_load_all(sys.stdin))


def of_kind(kind):
    return [each for each in objects if each["kind"] == kind]


def check(holds, what):
    if not holds:
        sys.exit(f"deploy/kubernetes: {what}")


(workload,) = of_kind("StatefulSet")
pod = workload["spec"]["template"]
labels = pod["metadata"]["labels"]
containers = {each["name"]: each for each in pod["spec"]["containers"]}
probe = containers["galera-probe"]
ports = {each["name"]: each["containerPort"] for c in containers.values() for each in c["ports"]}
arguments = dict(each.split("=", 1) for each in probe["args"] if "=" in each)


def selects(selector, what):
    check(selector.items() <= labels.items(), f"{what} selects {selector}, not the pods' {labels}")


def seconds(text):
    return int(re.fullmatch(r"(\d+)s", text)[1])


# Names.
selects(workload["spec"]["selector"]["matchLabels"], "the StatefulSet")
for budget in of_kind("PodDisruptionBudget"):
    selects(budget["spec"]["selector"]["matchLabels"], "the PodDisruptionBudget")
for policy in of_kind("NetworkPolicy"):
    selects(policy["spec"]["podSelector"]["matchLabels"], "the NetworkPolicy")
    for rule in policy["spec"]["ingress"]:
        for port in rule["ports"]:
            check(port["port"] in ports, f"the NetworkPolicy's port {port['port']} does not exist")
services = {each["metadata"]["name"]: each for each in of_kind("Service")}
for name, service in services.items():
    selects(service["spec"]["selector"], f"the Service {name}")
    for port in service["spec"]["ports"]:
        target = port["targetPort"]
        check(ports.get(target) == port["port"], f"the Service {name}: no such target as in {port}")
nodes = workload["spec"]["serviceName"]
check(services[nodes]["spec"]["clusterIP"] == "None", f"{nodes} is not headless")
(config,) = of_kind("ConfigMap")
members = re.search("gcomm://(.*)", config["data"]["galera.cnf"])[1].split(",")
replicas = range(workload["spec"]["replicas"])
expected = [f"{workload['metadata']['name']}-{replica}.{nodes}" for replica in replicas]
check(members == expected, f"wsrep_cluster_address has {members}, not {expected}")
volumes = {each["name"] for each in pod["spec"]["volumes"]}
volumes |= {each["metadata"]["name"] for each in workload["spec"]["volumeClaimTemplates"]}
mounted = {each["name"] for c in containers.values() for each in c["volumeMounts"]}
check(mounted == volumes, f"volumes are {volumes}, and mounted {mounted}")

# The balancer.
balancer = services["galera"]
annotations = balancer["metadata"]["annotations"]
served = {port["port"] for port in balancer["spec"]["ports"]}
for name in annotations:
    known = [re.fullmatch(AZURE + each, name) for each in ANNOTATIONS]
    (match,) = [each for each in known if each] or [None]
    check(match, f"the annotation {name} is not known")
    check(int(match.groupdict().get("port", 3306)) in served, f"{name}: the Service has no such port")


def annotation(name):
    return annotations[f"{AZURE}port_3306_health-probe_{name}"]


check(balancer["spec"]["externalTrafficPolicy"] == "Local", "the policy is not Local")
check(int(annotation("port")) == ports["health"] == 9200, "Azure does not check the probe's port")
check(annotation("protocol") == "http", "Azure does not check by HTTP")

# Times.
noticed = int(annotation("interval")) * int(annotation("num-of-probe"))
ready = probe["readinessProbe"]
unready = ready["periodSeconds"] * ready["failureThreshold"]
drained = seconds(arguments["--drain"])
waited = int(containers["mariadb"]["lifecycle"]["preStop"]["exec"]["command"][1])
ended = pod["spec"]["terminationGracePeriodSeconds"]
check(noticed < unready, "kube-proxy drops clients before the balancer redirects them")
check(noticed < drained < waited < ended, f"{noticed}, {drained}, {waited}, {ended} s")
for each in ("livenessProbe", "startupProbe", "readinessProbe"):
    check(each not in containers["mariadb"], f"{each}: a state transfer takes longer")

# The output for tests/deploy/run.
(password,) = [each for each in pod["spec"]["volumes"] if each["name"] == "probe-password"]
print("user", probe["securityContext"]["runAsUser"], sep="\0", end="\0")
print("group", probe["securityContext"]["runAsGroup"], sep="\0", end="\0")
print("fsGroup", pod["spec"]["securityContext"]["fsGroup"], sep="\0", end="\0")
print("mode", f"{password['secret']['defaultMode']:o}", sep="\0", end="\0")
for variable in probe["env"]:
    print("env", f"{variable['name']}={variable['value']}", sep="\0", end="\0")
for argument in probe["args"]:
    print("arg", argument, sep="\0", end="\0")
http = ready["httpGet"]
print("http", f"http://127.0.0.1:{ports[http['port']]}{http['path']}", sep="\0", end="\0")
print("http", f"http://127.0.0.1:{annotation('port')}{annotation('request-path')}", sep="\0", end="\0")
for word in probe["livenessProbe"]["exec"]["command"]:
    print("exec", word, sep="\0", end="\0")
