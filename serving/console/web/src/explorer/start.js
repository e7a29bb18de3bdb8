// Shows the gateway's own document; what is tried goes to the gateway that this page came from.
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#explorer",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  // Would ask a host of somebody else's.
  validatorUrl: null,
});
