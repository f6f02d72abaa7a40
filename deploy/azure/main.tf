# The load balancer of the script `load-balancer` for Terraform with azurerm 4. The script
# explains each number.
terraform {
  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = "~> 4.0"
    }
  }
}

variable "resource_group_name" { type = string }
variable "location" { type = string }
variable "subnet_id" { type = string }
variable "network_security_group_name" { type = string }

variable "nics" {
  description = "The nodes' network interfaces: name to ID"
  type        = map(string)
}

resource "azurerm_lb" "galera" {
  name                = "galera"
  resource_group_name = var.resource_group_name
  location            = var.location
  sku                 = "Standard"

  frontend_ip_configuration {
    name      = "clients"
    subnet_id = var.subnet_id
  }
}

resource "azurerm_lb_backend_address_pool" "nodes" {
  name            = "nodes"
  loadbalancer_id = azurerm_lb.galera.id
}

resource "azurerm_network_interface_backend_address_pool_association" "nodes" {
  for_each                = var.nics
  network_interface_id    = each.value
  ip_configuration_name   = "ipconfig1"
  backend_address_pool_id = azurerm_lb_backend_address_pool.nodes.id
}

resource "azurerm_lb_probe" "fit" {
  name                = "fit"
  loadbalancer_id     = azurerm_lb.galera.id
  protocol            = "Http"
  port                = 9200
  request_path        = "/"
  interval_in_seconds = 5
  probe_threshold     = 2
}

resource "azurerm_lb_rule" "mysql" {
  name                           = "mysql"
  loadbalancer_id                = azurerm_lb.galera.id
  protocol                       = "Tcp"
  frontend_port                  = 3306
  backend_port                   = 3306
  frontend_ip_configuration_name = "clients"
  backend_address_pool_ids       = [azurerm_lb_backend_address_pool.nodes.id]
  probe_id                       = azurerm_lb_probe.fit.id
  idle_timeout_in_minutes        = 30
  tcp_reset_enabled              = true
}

resource "azurerm_network_security_rule" "galera_probe" {
  name                        = "galera-probe"
  resource_group_name         = var.resource_group_name
  network_security_group_name = var.network_security_group_name
  priority                    = 200
  direction                   = "Inbound"
  access                      = "Allow"
  protocol                    = "Tcp"
  source_address_prefix       = "AzureLoadBalancer"
  source_port_range           = "*"
  destination_address_prefix  = "*"
  destination_port_range      = "9200"
}
